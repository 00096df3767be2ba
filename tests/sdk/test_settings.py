import os
import stat
from pathlib import Path

import pytest

from sanderling.errors import Denied, Invalid, NotFound
from sanderling.sdk import settings
from sanderling.sdk.settings import ServerRecord, WorkspaceConfig

URL = "https://localhost:8443"
NOBODY = 2**22 + 1  # above the highest process id


def test_config_is_found_upward(tmp_path: Path) -> None:
    path = settings.write_config(WorkspaceConfig("demo", URL), tmp_path)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert settings.find_config(below) == path
    assert settings.read_config(path) == WorkspaceConfig("demo", URL)


def test_a_missing_config_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"config\.json") as caught:
        settings.find_config(tmp_path)
    assert caught.value.__notes__ == ["sanderling init --name WORKSPACE"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"workspace_name": 1, "url": "u"}', "[" * 100_000])
def test_a_config_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(Invalid, match=r"config\.json"):
        settings.read_config(path)


def test_secrets_are_readable_by_their_owner_alone(config_dir: Path) -> None:
    settings.remember(URL, ca_file=None, token="secret")
    file = config_dir / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(config_dir.stat().st_mode) == 0o700
    assert settings.connection_to(URL).token == "secret"


def test_a_server_that_is_not_known_asks_to_sign_in(config_dir: Path) -> None:
    with pytest.raises(Denied, match="not signed in"):
        settings.connection_to(URL)


def test_the_environment_wins_over_what_is_stored(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.remember(URL, ca_file=Path("/stored.pem"), token="stored")
    monkeypatch.setenv("SANDERLING_TOKEN", "given")
    monkeypatch.setenv("SANDERLING_CA", "/given.pem")
    known = settings.connection_to(URL)
    assert (known.token, known.ca_file) == ("given", Path("/given.pem"))


def test_a_token_file_is_read_at_each_use(config_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "owner-token"
    file.write_text("first\n")
    settings.remember(URL, ca_file=None, token_file=file)
    assert settings.connection_to(URL).token == "first"
    file.write_text("second\n")
    assert settings.connection_to(URL).token == "second"


def test_only_servers_that_run_are_listed(config_dir: Path) -> None:
    settings.record_server(ServerRecord(URL, "ca", "token", NOBODY))
    with pytest.raises(NotFound, match="no server of yours"):
        settings.the_running_server()
    settings.record_server(ServerRecord("https://localhost:2", "ca", "token", os.getpid()))
    assert settings.the_running_server().url == "https://localhost:2"
    settings.forget_server(os.getpid())
    assert settings.running_servers() == []


def test_the_latest_server_comes_first_and_once(config_dir: Path) -> None:
    for url in (URL, "https://localhost:2", URL):
        settings.record_server(ServerRecord(url, "ca", "token", os.getpid()))
    assert [record.url for record in settings.running_servers()] == [URL, "https://localhost:2"]


def test_a_record_with_fields_of_another_version_is_passed_over(config_dir: Path) -> None:
    config_dir.mkdir()
    (config_dir / "servers.json").write_text('{"servers": [{"url": "u"}, 7, {"pid": 1, "strange": true}]}')
    assert settings.running_servers() == []


def test_a_ca_of_a_server_elsewhere_is_kept_under_its_name(config_dir: Path) -> None:
    path = settings.keep_ca("https://hub.example:8443", b"PEM")
    assert (path.name, path.read_bytes()) == ("hub.example_8443.pem", b"PEM")
