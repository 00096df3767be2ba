from typing import Any

import pytest

from sanderling.cli.image_sizes import show_sizes
from sanderling.cli.output import Output


def layer(title: str, size: int, **more: Any) -> dict[str, Any]:
    return {"title": title, "sizeBytes": size, "isNew": False, "sharedWith": [], "packages": []} | more


def test_a_table_says_what_is_new_what_is_shared_and_what_is_inside(capsys: pytest.CaptureFixture[str]) -> None:
    packages = [
        {"name": "joblib", "version": "1.5", "sizeBytes": 300_000},
        {"name": "narwhals", "version": "2.1", "sizeBytes": 400_000},
    ]
    platform = {
        "platform": "linux/arm64",
        "sizeBytes": 80_000_000,
        "sharedBytes": 79_000_000,
        "downloadBytes": 700_000,
        "layers": [
            layer("scipy 1.17", 37_600_000, sharedWith=["a:1", "b:1", "c:1", "d:1"]),
            layer("2 small packages", 700_000, isNew=True, packages=packages),
        ],
    }
    show_sizes(Output(False), {"previous": "digits:1", "platforms": [platform]})
    shown = capsys.readouterr().out
    assert "linux/arm64: 80.0 MB, 79.0 MB of it in other images too" in shown
    assert "a device that has digits:1 downloads 700.0 kB" in shown
    assert "a:1, b:1, c:1 and 1 more" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert next(row for row in rows if row[:1] == ["scipy"])[:5] == ["scipy", "1.17", "37.6", "MB", "-"]
    assert [row[0] for row in rows if row[-1:] == ["kB)"]] == ["narwhals", "joblib"]


def test_an_image_of_an_earlier_builder_has_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_sizes(Output(False), {"previous": None, "platforms": []})
    assert "build it again" in capsys.readouterr().out
