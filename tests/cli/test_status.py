import json
from pathlib import Path
from typing import Any


def test_status_counts_what_is_there(up: Any, project: Path) -> None:
    up.cli("model", "register", "config.json", cwd=project)
    done = up.cli("status", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["url"], told["models"], told["images"]) == (up.url, 1, 0)
    assert up.url in up.cli("status", cwd=project).stdout


def test_status_without_a_workspace_shows_the_server(up: Any, tmp_path: Path) -> None:
    done = up.cli("status", cwd=tmp_path)
    assert done.returncode == 0
    assert up.url in done.stdout
    assert "sanderling init" in done.stdout


def test_open_prints_the_link_alone(up: Any, project: Path) -> None:
    done = up.cli("open", cwd=project)
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"{up.url}/sign-in#")
    assert json.loads(up.cli("open", "--json", cwd=project).stdout)["url"] != done.stdout.strip()
