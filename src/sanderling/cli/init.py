"""`sanderling init`: sign in to a server and name the workspace of this folder."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanderling.cli.output import JSON_HELP, Output
from sanderling.errors import Denied, Invalid, NotFound
from sanderling.sdk.hints import hinted
from sanderling.sdk.settings import find_config, keep_ca, read_config, remember, running_servers, the_running_server
from sanderling.sdk.workspace import Workspace

if TYPE_CHECKING:
    from sanderling.sdk.client import Client

EXAMPLE = "sanderling init --name demo"


def init(
    name: Annotated[str | None, typer.Option(help="The workspace; it is made if it is not there.")] = None,
    url: Annotated[str | None, typer.Option(help="The server; the one on this machine if none is given.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The CA file of a server elsewhere.")] = None,
    code_stdin: Annotated[
        bool, typer.Option("--code-stdin", help="Read the sign-in code, or the whole link, from stdin.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Sign in and name the workspace of this folder.

    It writes config.json here, so that commands and scripts in this folder find their workspace.

    A server that you run on this machine needs no sign-in. For one elsewhere, `sanderling open` there
    prints a link; its code is asked for here, and what is stored is readable by you alone.
    """
    out = Output(json_)
    name = name or _name_in_config()
    client = _local(url, ca) or _elsewhere(out, url or "", ca, code_stdin)
    with client:
        workspace = Workspace.create(name, client=client, exist_ok=True)
        path = workspace.write_config()
        login_server = workspace.login_server
    out.step(f"Workspace {name} on {workspace.url}; registry {login_server}")
    out.step(f"Wrote {path}; no secret is in it")
    out.result({"workspace": name, "url": workspace.url, "loginServer": login_server, "config": str(path)})


def _name_in_config() -> str:
    try:
        return read_config(find_config()).workspace_name
    except NotFound:
        raise hinted(Invalid("a workspace needs a name"), EXAMPLE) from None


def _local(url: str | None, ca: Path | None) -> "Client | None":
    """The client for a server that this user runs here, or None when *url* is another."""
    from sanderling.sdk.connection import connect

    if url is None:
        server = the_running_server()
    else:
        found = next((record for record in running_servers() if record.url == url.rstrip("/")), None)
        if found is None or ca is not None:
            return None
        server = found
    remember(server.url, ca_file=Path(server.ca_file), token_file=Path(server.token_file))
    return connect(server.url)


def _elsewhere(out: Output, url: str, ca: Path | None, code_stdin: bool) -> "Client":
    from sanderling.sdk.client import Client, check_url
    from sanderling.sdk.connection import connect

    url = check_url(url)
    ca_file = _ca_of(url, ca)
    if os.environ.get("SANDERLING_TOKEN"):
        return connect(url)
    with Client(url, ca_file=ca_file) as nobody:
        nobody.call("GET", "/.well-known/sanderling")
        code = _code(code_stdin)
        try:
            answer = nobody.call("POST", "/api/v1/sign-in", body={"code": code})
        except Denied as error:
            raise hinted(error, "sanderling open, on the server's machine, prints another link") from None
    remember(url, ca_file=ca_file, token=answer["token"])
    out.step(f"Signed in to {url} until {answer['expiresAt']}")
    return connect(url)


def _ca_of(url: str, ca: Path | None) -> Path | None:
    given = ca or (Path(os.environ["SANDERLING_CA"]) if os.environ.get("SANDERLING_CA") else None)
    if given is None:
        return None
    try:
        return keep_ca(url, given.read_bytes())
    except OSError as error:
        raise Invalid(f"the CA file {given} cannot be read: {error.strerror}") from error


def _code(from_stdin: bool) -> str:
    if from_stdin:
        text = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        text = str(typer.prompt("Sign-in code or link", hide_input=True, err=True)).strip()
    else:
        raise hinted(Invalid("a sign-in code is needed, and nobody can be asked here"), "--code-stdin < FILE")
    code = text.rpartition("#")[2]
    if not code:
        raise hinted(Invalid("the sign-in code is empty"), "sanderling open, on the server's machine, prints a link")
    return code
