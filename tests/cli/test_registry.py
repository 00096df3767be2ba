import json
from pathlib import Path
from typing import Any


def credentials(up: Any, project: Path, *options: str) -> dict[str, Any]:
    done = up.cli("registry", "credentials", "--json", *options, cwd=project)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_admin_user_is_off_until_it_is_switched_on(up: Any, project: Path) -> None:
    before = credentials(up, project)
    assert (before["adminUserEnabled"], before["passwords"]) == (False, [])
    on = credentials(up, project, "--enable")
    assert [p["name"] for p in on["passwords"]] == ["password", "password2"]
    assert on["loginServer"] == up.url.removeprefix("https://")
    assert credentials(up, project, "--disable")["passwords"] == []


def test_one_password_is_replaced_and_the_other_stays(up: Any, project: Path) -> None:
    before = {p["name"]: p["value"] for p in credentials(up, project, "--enable")["passwords"]}
    after = {p["name"]: p["value"] for p in credentials(up, project, "--regenerate", "password2")["passwords"]}
    assert after["password"] == before["password"]
    assert after["password2"] != before["password2"]


def test_there_is_no_third_password(up: Any, project: Path) -> None:
    done = up.cli("registry", "credentials", "--regenerate", "password3", cwd=project)
    assert done.returncode == 2
    assert "password3" in done.stderr


def test_an_empty_registry_says_what_fills_it(up: Any, project: Path) -> None:
    assert "nothing in the registry yet" in up.cli("registry", "list", cwd=project).stdout
    assert json.loads(up.cli("registry", "list", "--json", cwd=project).stdout) == []


def test_with_json_the_passwords_are_in_the_document_and_nowhere_else(up: Any, project: Path) -> None:
    done = up.cli("registry", "credentials", "--enable", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    values = [password["value"] for password in json.loads(done.stdout)["passwords"]]
    assert len(values) == 2
    for value in values:
        assert value not in done.stderr
