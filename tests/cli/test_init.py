import json
import stat
from pathlib import Path
from typing import Any


def test_init_writes_a_config_without_secrets_for_the_server_that_runs_here(up: Any, tmp_path: Path) -> None:
    done = up.cli("init", "--name", "demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "config.json").read_text()) == {"workspace_name": "demo", "url": up.url}
    assert json.loads(done.stdout)["loginServer"] == up.url.removeprefix("https://")
    for name in ("credentials.json", "servers.json"):
        assert stat.S_IMODE((up.config / name).stat().st_mode) == 0o600
        assert up.token not in (up.config / name).read_text()


def test_init_without_a_name_takes_the_one_of_the_config_above(up: Any, project: Path) -> None:
    below = project / "notebooks"
    below.mkdir()
    assert up.cli("init", cwd=below).returncode == 0
    assert (below / "config.json").read_text() == (project / "config.json").read_text()


def test_init_needs_a_name_once(up: Any, tmp_path: Path) -> None:
    done = up.cli("init", cwd=tmp_path)
    assert done.returncode == 2
    assert "a workspace needs a name" in done.stderr


def test_init_refuses_a_name_that_cannot_be_one_and_writes_nothing(up: Any, tmp_path: Path) -> None:
    done = up.cli("init", "--name", "No Name", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot name a workspace" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_elsewhere_signs_in_with_a_code_and_stores_the_token_for_the_owner_alone(up: Any, tmp_path: Path) -> None:
    link = up.cli("open", "--url", up.url, cwd=tmp_path).stdout.strip()
    assert link.startswith(f"{up.url}/sign-in#")
    elsewhere = {"SANDERLING_CONFIG_DIR": str(tmp_path / "config"), "SANDERLING_TOKEN": ""}
    arguments = ("init", "--name", "demo", "--url", up.url, "--ca", str(up.ca_file), "--code-stdin")
    done = up.cli(*arguments, cwd=tmp_path, stdin=link, **elsewhere)
    assert done.returncode == 0, done.stderr
    stored = tmp_path / "config" / "credentials.json"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert up.cli("model", "list", cwd=tmp_path, **elsewhere).returncode == 0
    again = up.cli(*arguments, cwd=tmp_path, stdin=link, **elsewhere)
    assert again.returncode == 1  # a code works once


def test_init_elsewhere_without_the_ca_is_refused_before_any_secret_is_sent(up: Any, tmp_path: Path) -> None:
    elsewhere = {"SANDERLING_CONFIG_DIR": str(tmp_path / "config")}
    done = up.cli("init", "--name", "demo", "--url", up.url, "--code-stdin", cwd=tmp_path, stdin="code", **elsewhere)
    assert done.returncode == 1
    assert "not signed by the CA" in done.stderr
    assert "--ca FILE" in done.stderr


def test_init_without_a_server_says_how_to_start_one(up: Any, tmp_path: Path) -> None:
    done = up.cli("init", "--name", "demo", cwd=tmp_path, SANDERLING_CONFIG_DIR=str(tmp_path / "config"))
    assert done.returncode == 2
    assert "no server of yours runs on this machine" in done.stderr
    assert "try: sanderling up" in done.stderr
