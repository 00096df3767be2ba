import json
from pathlib import Path
from typing import Any

import pytest


def test_a_model_is_registered_listed_shown_downloaded_and_deleted(up: Any, project: Path) -> None:
    (project / "model.pkl").write_bytes(b"model")
    done = up.cli("model", "register", "model.pkl", "--name", "digits", "--tag", "a=b", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "--> Registered digits:1, 1 file, 5 B" in done.stdout
    assert "digits" in up.cli("model", "list", cwd=project).stdout
    assert "a=b" in up.cli("model", "show", "digits:1", cwd=project).stdout
    assert up.cli("model", "download", "digits", "--to", "out", cwd=project).returncode == 0
    assert (project / "out" / "model.pkl").read_bytes() == b"model"
    assert up.cli("model", "delete", "digits:1", "--yes", cwd=project).returncode == 0
    assert json.loads(up.cli("model", "list", "--json", cwd=project).stdout) == []


def test_json_is_one_document_and_the_steps_go_to_stderr(up: Any, project: Path) -> None:
    (project / "model.pkl").write_bytes(b"model")
    done = up.cli("model", "register", "model.pkl", "--json", cwd=project)
    model = json.loads(done.stdout)
    assert (model["id"], model["sizeBytes"]) == ("model.pkl:1", 5)
    assert "--> Registered" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["register", "nix.pkl"], "nix.pkl is not there"),
        (["register", "/proc/self/mem"], "/proc/self/mem cannot be read"),
        (["register", "config.json", "--name", "a/b"], "'a/b' cannot name a model"),
        (["register", "config.json", "--tag", "novalue"], "--tag 'novalue' is not KEY=VALUE"),
        (["show", "nix"], "'nix'"),
        (["show", "digits:one"], "'digits:one' is not NAME:VERSION"),
        (["download", "nix:3"], "'nix"),
        (["delete", "nix", "--yes"], "'nix'"),
    ],
)
def test_bad_input_is_named_changes_nothing_and_is_exit_code_2(
    up: Any, project: Path, arguments: list[str], text: str
) -> None:
    done = up.cli("model", *arguments, cwd=project)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert json.loads(up.cli("model", "list", "--json", cwd=project).stdout) == []


def test_without_a_terminal_nothing_is_deleted_unless_yes_is_said(up: Any, project: Path) -> None:
    up.cli("model", "register", "config.json", cwd=project)
    done = up.cli("model", "delete", "config.json:1", cwd=project)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert len(json.loads(up.cli("model", "list", "--json", cwd=project).stdout)) == 1


def test_a_file_that_is_there_is_not_overwritten(up: Any, project: Path) -> None:
    up.cli("model", "register", "config.json", cwd=project)
    done = up.cli("model", "download", "config.json", cwd=project)
    assert done.returncode == 1
    assert "is there already" in done.stderr
    assert "--force" in done.stderr
