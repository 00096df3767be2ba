from pathlib import Path

import pytest

from sanderling.errors import Invalid
from sanderling.sdk import image_inputs
from sanderling.sdk.image_inputs import files_named_in

WHEEL = "mine-1.0-py3-none-any.whl"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("env/myenv.yml", f"env/wheels/{WHEEL}", f"dist/{WHEEL}", "env/conf/a.txt", "env/conf/b.txt", "key"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("six\n")
    return tmp_path / "env"


def named(project: Path, *lines: str) -> list[str]:
    (project / "myenv.yml").write_text("\n".join(lines) + "\n")
    return [file.path for file in files_named_in(project / "myenv.yml")]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (f"    - ./wheels/{WHEEL}", f"wheels/{WHEEL}"),
        (f"    - wheels/{WHEEL}  # ours", f"wheels/{WHEEL}"),
        (f"    - wheels\\{WHEEL}", f"wheels/{WHEEL}"),
        (f"    - \"./wheels/{WHEEL}[fast] ; python_version < '4'\"", f"wheels/{WHEEL}"),
        (f"mine @ ./wheels/{WHEEL}", f"wheels/{WHEEL}"),
        (f"mine[fast] @ file:wheels/{WHEEL}", None),
        (f"../dist/{WHEEL}", f"../dist/{WHEEL}"),
        ("-r conf/b.txt", "conf/b.txt"),
        ("    - -c ./conf/b.txt", "conf/b.txt"),
        ("--requirement=conf/b.txt", "conf/b.txt"),
        ("-rconf/b.txt", "conf/b.txt"),
        ("    - -r ../key", None),
        ("-r gone.txt", None),
        ("./gone.whl", None),
        ("-e .", None),
        (f"https://example.org/{WHEEL}", None),
        (f"# ./wheels/{WHEEL}", None),
        ("six", None),
    ],
)
def test_files_are_found_as_pip_would_find_them(project: Path, line: str, path: str | None) -> None:
    assert named(project, "dependencies:", line) == ([path] if path else [])


def test_files_that_files_name_come_too_and_each_once(project: Path) -> None:
    (project / "conf" / "a.txt").write_text(f"-r b.txt\n-r a.txt\n../wheels/{WHEEL}\n")
    found = named(project, "-r conf/a.txt", f"./wheels/{WHEEL}")
    assert found == ["conf/a.txt", "conf/b.txt", f"wheels/{WHEEL}"]


def test_an_absolute_path_is_found(project: Path) -> None:
    assert named(project, f"{project}/wheels/{WHEEL}", f"mine @ file://{project}/wheels/{WHEEL}") == [f"wheels/{WHEEL}"]


def test_too_many_files_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_inputs, "MAX_FILES", 1)
    with pytest.raises(Invalid, match="names more than 1 files"):
        named(project, "-r conf/a.txt", "-r conf/b.txt")
