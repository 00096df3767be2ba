import json
import subprocess
import sys
from pathlib import Path

import pytest

from sanderling.image import Recipe, SourceFile


def work(spec: object, folder: Path, stdin: str = "") -> tuple[int, list[dict[str, object]], str]:
    path = folder / "spec.json"
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    command = [sys.executable, "-m", "sanderling.image", str(path)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_input_that_cannot_be_built_ends_with_code_2_and_an_error(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def init(): pass\n")
    recipe = Recipe("demo/digits:1", SourceFile("score.py", tmp_path / "score.py"))
    spec = {"recipe": recipe.to_json(), "cache": str(tmp_path / "cache"), "output": {"layout": str(tmp_path / "out")}}
    code, lines, _ = work(spec, tmp_path)
    assert code == 2
    assert lines[-1]["error"] == {
        "kind": "invalid",
        "message": "score.py, line 1: the script has no function 'run' (called with each request's data); "
        "add 'def run(data): ...'",
        "culprit": {"file": "score.py", "line": 1},
    }
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spec", ["no json", "[]", {}, {"recipe": {"image": "demo/digits:1"}}, {"recipe": []}])
def test_a_description_that_cannot_be_read_ends_with_code_2(tmp_path: Path, spec: object) -> None:
    code, lines, stderr = work(spec, tmp_path)
    assert code == 2
    assert lines or stderr
    assert "Traceback" not in stderr


def test_secrets_that_are_no_json_are_refused_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(d): pass\n")
    recipe = Recipe("demo/digits:1", SourceFile("score.py", tmp_path / "score.py"))
    spec = {"recipe": recipe.to_json(), "cache": str(tmp_path / "cache"), "output": {"push": {"registry": "x"}}}
    code, lines, stderr = work(spec, tmp_path, stdin="top-secret\n")
    assert code == 2
    assert "top-secret" not in json.dumps(lines) + stderr


def test_a_worker_does_not_import_sql() -> None:
    code = "import sys, sanderling.image.service.worker; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
