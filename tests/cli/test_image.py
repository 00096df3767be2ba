import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sanderling.cli.image import base_text, seconds_text

SCRIPT = "def init(): pass\ndef run(raw_data): return raw_data\n"


def images(up: Any, project: Path) -> list[dict[str, Any]]:
    return list(json.loads(up.cli("image", "list", "--json", cwd=project).stdout))


@pytest.fixture
def script(project: Path) -> Path:
    (project / "score.py").write_text(SCRIPT)
    return project / "score.py"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--name digits --script nix.py", "nix.py is not there"),
        ("--name digits --script config.json", "config.json is not a Python file"),
        ("--name digits --script score.py --environment nix.yml", "nix.yml is not there"),
        ("--name digits --script score.py --model nix", "nix"),
        ("--name digits --script score.py --model nix:1", "nix:1"),
        ("--name digits --script score.py --file nix", "nix is not there"),
        ("--name digits --script score.py --tag x", "--tag 'x' is not KEY=VALUE"),
        ("--name UPPER/CASE --script score.py", "UPPER/CASE"),
        ("--name digits --script score.py --platform linux/vax", "linux/vax"),
        ("--name digits --script norun.py", "run"),
        ("--name digits --script score.py --environment noyaml.yml", "noyaml.yml"),
        ("--name digits --script score.py --requirements nix.txt", "nix.txt is not there"),
        ("--name digits --script score.py --requirements bad.txt", "bad.txt, line 2: 'bad=1' is no requirement"),
        ("--name digits --script score.py --dockerfile nix", "nix is not there"),
        ("--name digits --script score.py --dockerfile Steps", "Steps, line 2: COPY gone: no such file"),
    ],
)
def test_bad_input_is_named_and_no_image_is_begun(
    up: Any, project: Path, script: Path, arguments: str, text: str
) -> None:
    (project / "norun.py").write_text("def init(): pass\n")
    (project / "Steps").write_text("COPY score.py /opt/\nCOPY gone /opt/\n")
    (project / "noyaml.yml").write_text("dependencies: [unclosed\n")
    (project / "bad.txt").write_text("./mine-1.0-py3-none-any.whl\nbad=1\n")
    with zipfile.ZipFile(project / "mine-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mine.py", "")
    done = up.cli("image", "build", *arguments.split(), cwd=project)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert images(up, project) == []


@pytest.mark.parametrize("verb", ["show", "logs"])
def test_an_unknown_image_is_named(up: Any, project: Path, verb: str) -> None:
    done = up.cli("image", verb, "nix:1", cwd=project)
    assert done.returncode == 2
    assert "nix:1" in done.stderr


def test_what_is_shown_of_a_record_fits_in_a_line() -> None:
    steps = [{"name": name, "seconds": n} for n, name in enumerate(("base", "resolve", "wheels", "push"))]
    assert seconds_text(7.25, steps) == "7.2 (push 3.0, wheels 2.0, resolve 1.0)"
    assert (seconds_text(7.25, []), seconds_text(None, steps)) == ("7.2", None)
    assert base_text({"kind": "debian", "release": "bookworm", "packages": 61}) == "Debian bookworm, 61 packages"
    upon = {"kind": "oci", "name": "docker.io/library/python:3.12", "digest": "sha256:" + "ab" * 32}
    assert base_text(upon) == "docker.io/library/python:3.12 sha256:abababababab"
