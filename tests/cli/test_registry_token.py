"""`sanderling registry token` and `sanderling registry login`."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest


@pytest.fixture
def name(up: Any, project: Path) -> str:
    return f"ci-{uuid4().hex[:6]}"


def read(up: Any, project: Path, *arguments: str) -> Any:
    done = up.cli("registry", *arguments, "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def workspace_of(project: Path) -> str:
    return str(json.loads((project / "config.json").read_text())["workspace_name"])


def greeting(up: Any, username: str, password: str) -> int:
    import ssl

    tls = ssl.create_default_context(cafile=str(up.ca_file))
    return httpx.get(f"{up.url}/v2/", auth=(username, password), verify=tls).status_code


def test_a_token_is_shown_once_with_the_line_that_signs_in(up: Any, project: Path, name: str) -> None:
    done = up.cli("registry", "token", "create", name, "--repository", "digits", "--expires", "30d", cwd=project)
    assert done.returncode == 0, done.stderr
    server = up.url.removeprefix("https://")
    assert f"docker login {server} --username {workspace_of(project)}.{name} --password-stdin" in done.stdout
    assert "in 30 days" in done.stdout
    (password,) = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("password")]
    assert greeting(up, f"{workspace_of(project)}.{name}", password) == 200
    listed = up.cli("registry", "token", "list", cwd=project)
    assert name in listed.stdout
    assert password not in listed.stdout


def test_a_token_for_an_hour_says_when_and_one_that_is_off_how_to_go_on(up: Any, project: Path, name: str) -> None:
    done = up.cli("registry", "token", "create", name, "--expires", "1h", cwd=project)
    (expires,) = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("expires")]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", expires)
    assert up.cli("registry", "token", "disable", name, cwd=project).returncode == 0
    renewed = up.cli("registry", "token", "regenerate", name, cwd=project)
    assert f"disabled: it is refused until sanderling registry token enable {name}" in renewed.stdout


def test_a_token_is_switched_renewed_and_deleted(up: Any, project: Path, name: str) -> None:
    made = read(up, project, "token", "create", name, "--push", "--pull", "--description", "for builds")
    workspace = workspace_of(project)
    assert made["scopes"] == [{"repositories": f"{workspace}/*", "actions": ["pull", "push"]}]
    assert (made["state"], made["expiresAt"], made["description"]) == ("enabled", None, "for builds")
    assert read(up, project, "token", "disable", name)["state"] == "disabled"
    assert greeting(up, made["username"], made["password"]) == 401
    assert read(up, project, "token", "enable", name)["state"] == "enabled"
    renewed = read(up, project, "token", "regenerate", name)
    assert greeting(up, made["username"], made["password"]) == 401
    assert greeting(up, made["username"], renewed["password"]) == 200
    refused = up.cli("registry", "token", "delete", name, cwd=project)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert read(up, project, "token", "delete", name, "--yes") == {"deleted": name}
    assert name not in [one["name"] for one in read(up, project, "token", "list")]
    assert up.cli("registry", "token", "disable", name, cwd=project).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("NAME", "no token's name"),
        ("x --expires 30", "90m, 12h or 30d"),
        ("x --expires 0d", "90m, 12h or 30d"),
        ("x --expires 999999w", "90m, 12h or 30d"),
        ("x --repository Not/A/Name", "no pattern of repositories"),
    ],
)
def test_what_cannot_be_a_token_is_refused_by_name(up: Any, project: Path, arguments: str, text: str) -> None:
    done = up.cli("registry", "token", "create", *arguments.split(), cwd=project)
    assert (done.returncode, text in done.stderr) == (2, True), done.stderr


def test_nothing_secret_is_beside_the_document(up: Any, project: Path, name: str) -> None:
    done = up.cli("registry", "token", "create", name, "--json", cwd=project)
    assert json.loads(done.stdout)["password"] not in done.stderr
    done = up.cli("registry", "login", "--json", cwd=project)
    assert json.loads(done.stdout)["password"] not in done.stderr


def client_that(folder: Path, script: str) -> Path:
    """Put a `docker` of ours first in the way; return the folder."""
    folder.mkdir()
    tool = folder / "docker"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return folder


def test_login_gives_the_password_to_the_client_on_standard_input(up: Any, project: Path, tmp_path: Path) -> None:
    tools = client_that(tmp_path / "bin", f"cat > {tmp_path}/stdin; echo $@ > {tmp_path}/arguments")
    done = up.cli("registry", "login", cwd=project, PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "docker is signed in to" in done.stdout
    password = (tmp_path / "stdin").read_text()
    assert greeting(up, "token", password) == 200
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments == ["login", up.url.removeprefix("https://"), "--username", "token", "--password-stdin"]
    assert password not in done.stdout + done.stderr


def test_a_login_that_fails_says_why(up: Any, project: Path, tmp_path: Path) -> None:
    said = "x509: certificate signed by unknown authority"
    tools = client_that(tmp_path / "bin", f"echo '{said}' >&2; exit 1")
    done = up.cli("registry", "login", cwd=project, PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert said in done.stderr
    assert "/etc/docker/certs.d/" in done.stderr


def test_where_docker_has_signed_in_podman_says_so_and_we_say_what_to_do(
    up: Any, project: Path, tmp_path: Path
) -> None:
    said = "Error: currently logged in, auth file contains an Identity token"
    tools = client_that(tmp_path / "bin", f"echo '{said}' >&2; exit 1")
    done = up.cli("registry", "login", "--with", "docker", cwd=project, PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert f"try: docker logout {up.url.removeprefix('https://')}" in done.stderr


def test_without_docker_and_podman_it_says_how(up: Any, project: Path, tmp_path: Path) -> None:
    done = up.cli("registry", "login", cwd=project, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "sanderling registry login --print | skopeo login" in done.stdout
    assert up.cli("registry", "login", "--with", "podman", cwd=project, PATH=str(tmp_path)).returncode == 2
    assert up.cli("registry", "login", "--with", "crane", cwd=project).returncode == 2
