"""`sanderling registry login`: sign Docker or Podman in, as `az acr login` does."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sanderling.cli.output import JSON_HELP, Output
from sanderling.errors import Invalid, NotFound, SanderlingError
from sanderling.sdk.hints import hinted
from sanderling.sdk.registry_tokens import RegistryLogin
from sanderling.sdk.workspace import Workspace

EXAMPLE = "sanderling registry login"
TOOLS = ("docker", "podman")
LOGIN_S = 60.0


class LoginFailed(SanderlingError):
    """Docker or Podman could not sign in."""


def login(
    with_: Annotated[
        str | None, typer.Option("--with", metavar="docker|podman", help="Sign this one in; else whichever is here.")
    ] = None,
    print_: Annotated[
        bool, typer.Option("--print", help="Print the password alone, for another client's --password-stdin.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Sign Docker or Podman in to the registry, for three hours.

    The password is made for you and ends by itself; it opens this workspace's repositories, and for
    the owner of the server what upstreams have. It goes to the client's standard input. With --print
    or --json it is shown, and nobody is signed in.
    """
    out = Output(json_)
    if with_ is not None and with_ not in TOOLS:
        raise Invalid(f"--with {with_!r}: docker or podman is expected; for other clients there is --print")
    workspace = Workspace.from_config()
    if print_ or json_:
        made = workspace.registry.login()
        if print_ and not json_:
            typer.echo(made.password)
        out.result(_document(made) | {"password": made.password})
        return
    tool = next((name for name in ([with_] if with_ else TOOLS) if shutil.which(name)), None)
    if tool is None and with_ is not None:
        raise hinted(NotFound(f"{with_} is not installed here"), "sanderling registry login --print")
    if tool is None:
        _show_how(out, workspace)
        return
    made = workspace.registry.login()
    _sign_in(tool, made, workspace.client.ca_file)
    out.step(f"{tool} is signed in to {made.login_server} until {made.expires_time:%Y-%m-%d %H:%M} UTC")


def _document(made: RegistryLogin) -> dict[str, str | None]:
    expires_at = made.expires_time.isoformat() if made.expires_time else None
    return {"loginServer": made.login_server, "username": made.username, "expiresAt": expires_at}


def _show_how(out: Output, workspace: Workspace) -> None:
    out.line("Neither docker nor podman is installed here. Any client that takes a password on standard input:")
    client = f"skopeo login {workspace.login_server} --username token --password-stdin"
    out.line(f"    sanderling registry login --print | {client}")


def _sign_in(tool: str, made: RegistryLogin, ca_file: Path | None) -> None:
    """Run the client's own login; what it says of a failure is passed on."""
    with tempfile.TemporaryDirectory() as folder:
        command = [tool, "login", made.login_server, "--username", made.username, "--password-stdin"]
        if tool == "podman" and ca_file is not None:
            shutil.copy(ca_file, Path(folder) / "ca.crt")
            command += ["--cert-dir", folder]
        try:
            done = subprocess.run(command, input=made.password, capture_output=True, text=True, timeout=LOGIN_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LoginFailed(f"{tool} cannot be run: {type(error).__name__}") from error
    if done.returncode == 0:
        return
    said = done.stderr.strip().splitlines()
    failed = LoginFailed(
        f"{tool} did not sign in to {made.login_server}: {said[-1][:500] if said else 'no reason given'}"
    )
    if "certificate" in done.stderr and ca_file is not None:
        hinted(failed, f"trust its CA first: copy {ca_file} to /etc/docker/certs.d/{made.login_server}/ca.crt")
    if "Identity token" in done.stderr:  # podman reads docker's file, and does not replace what docker wrote there
        hinted(failed, f"docker logout {made.login_server}, or go on with what docker has: podman uses it")
    raise failed
