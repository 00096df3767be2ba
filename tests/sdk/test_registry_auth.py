import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sanderling.errors import Denied, Invalid
from sanderling.sdk import RegistryAccount
from sanderling.sdk.registry_auth import find_account, read_account


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any credentials."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    (tmp_path / ".docker").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path


def docker(home: Path, config: Any) -> None:
    (home / ".docker/config.json").write_text(config if isinstance(config, str) else json.dumps(config))


def packed(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def program(home: Path, name: str, script: str) -> None:
    path = home / "bin" / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_nobody_is_known_where_there_is_no_file(home: Path) -> None:
    assert find_account("localhost:8443", "demo/x") is None


@pytest.mark.parametrize("key", ["localhost:8443", "https://localhost:8443", "https://localhost:8443/v2/"])
def test_what_docker_login_keeps_is_found(home: Path, key: str) -> None:
    docker(home, {"auths": {key: packed("me", "a:b")}})
    assert find_account("localhost:8443", "demo/x") == RegistryAccount("me", "a:b")
    assert find_account("localhost:8444", "demo/x") is None


def test_dockers_own_registry_has_a_name_of_its_own(home: Path) -> None:
    docker(home, {"auths": {"https://index.docker.io/v1/": packed("me", "p")}})
    assert find_account("docker.io", "library/debian") == RegistryAccount("me", "p")


def test_an_identity_token_is_told_from_a_password(home: Path) -> None:
    docker(home, {"auths": {"r.io": {**packed("me", ""), "identitytoken": "it"}}})
    assert find_account("r.io", "x") == RegistryAccount("me", "", "it")


def test_podmans_files_come_first_and_the_narrowest_entry_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(home, {"auths": {"r.io": packed("docker", "p")}})
    (home / "run/containers").mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    auths = {"r.io/a/b": packed("narrow", "p"), "r.io/a": packed("wide", "p")}
    (home / "run/containers/auth.json").write_text(json.dumps({"auths": auths}))
    found = {repository: find_account("r.io", repository) for repository in ("a/b", "a/b/c", "a/c", "z")}
    assert {name: account.username for name, account in found.items() if account} == {
        "a/b": "narrow",
        "a/b/c": "narrow",
        "a/c": "wide",
        "z": "docker",
    }


def test_credential_programs_are_asked_by_standard_input(home: Path) -> None:
    program(home, "mine", """read host; echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"s-$host\\"}" """)
    docker(home, {"credHelpers": {"r.io": "mine"}, "auths": {"r.io": {}}})
    assert find_account("r.io", "x") == RegistryAccount("u", "s-r.io")
    docker(home, {"credsStore": "mine"})
    assert find_account("r.io", "x") == RegistryAccount("u", "s-r.io")
    program(home, "mine", """echo '{"Username":"<token>","Secret":"it"}'""")
    assert find_account("r.io", "x") == RegistryAccount("", "", "it")


def test_a_program_that_knows_nothing_is_not_an_error(home: Path) -> None:
    program(home, "mine", "echo 'credentials not found in native keychain'; exit 1")
    docker(home, {"credsStore": "mine", "auths": {"r.io": packed("me", "p")}})
    assert find_account("r.io", "x") == RegistryAccount("me", "p")


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense", "echo '{\"Username\":1}'", "echo '[]'"])
def test_a_program_that_fails_is_denied_by_name(home: Path, script: str) -> None:
    program(home, "mine", script)
    docker(home, {"credsStore": "mine"})
    with pytest.raises(Denied, match="docker-credential-mine"):
        find_account("r.io", "x")


def test_a_program_that_is_not_there_is_named(home: Path) -> None:
    docker(home, {"credsStore": "gone"})
    with pytest.raises(Denied, match="docker-credential-gone, which is not installed"):
        find_account("r.io", "x")


@pytest.mark.parametrize(
    "config", ["{", "[]", "1", '{"credsStore": "../evil"}', '{"auths": {"r.io": {"auth": "\\u00ff"}}}']
)
def test_files_that_cannot_be_are_named_and_not_shown(home: Path, config: str) -> None:
    docker(home, config)
    with pytest.raises(Invalid, match=r"config\.json"):
        find_account("r.io", "x")


@pytest.mark.parametrize("config", [{}, {"auths": None}, {"auths": []}, {"auths": {"r.io": 1}}, {"credHelpers": "x"}])
def test_files_that_say_nothing_say_nothing(home: Path, config: Any) -> None:
    docker(home, config)
    assert find_account("r.io", "x") is None


def test_an_account_of_the_users_own_file_is_one_line() -> None:
    assert read_account("me:a:b\n", "f") == RegistryAccount("me", "a:b")
    assert "a:b" not in repr(read_account("me:a:b", "f"))
    for text in ("", "me", ":p", "me:p\nmore"):
        with pytest.raises(Invalid, match="f does not hold"):
            read_account(text, "f")
