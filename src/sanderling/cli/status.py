"""`sanderling status` and `sanderling open`: which server this folder uses, and the way into its portal."""

from typing import Annotated, Any

import typer

from sanderling.cli.output import JSON_HELP, Output
from sanderling.errors import NotFound
from sanderling.sdk.connection import connect
from sanderling.sdk.device import Device
from sanderling.sdk.settings import find_config, read_config, running_servers, the_running_server
from sanderling.sdk.workspace import Workspace

STATUS_EXAMPLE = "sanderling status --json"
OPEN_EXAMPLE = "sanderling open"


def status(json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False) -> None:
    """Show the server, the workspace and what is in it."""
    out = Output(json_)
    servers = running_servers()
    out.table(("SERVER HERE", "#PROCESS", "DATA"), [(server.url, server.pid, server.data) for server in servers])
    document: dict[str, Any] = {"servers": [{"url": server.url, "pid": server.pid} for server in servers]}
    try:
        path = find_config()
    except NotFound:
        if not servers:
            raise
        out.line("no config.json in this folder or above it; sanderling init --name WORKSPACE")
        out.result({**document, "workspace": None})
        return
    workspace = Workspace.from_config(path)
    about = workspace.client.call("GET", "/.well-known/sanderling")
    details = workspace.details
    devices = Device.list(workspace)
    connected = sum(device.is_connected for device in devices)
    out.line()
    out.facts(
        [
            ("workspace", workspace.name),
            ("server", f"{workspace.url} (version {about.get('version', '?')})"),
            ("registry", workspace.login_server),
            ("models", details.get("modelCount")),
            ("images", details.get("imageCount")),
            ("devices", f"{len(devices)}, {connected} connected"),
            ("config", path),
        ]
    )
    out.result(
        {
            **document,
            "workspace": workspace.name,
            "url": workspace.url,
            "version": about.get("version"),
            "loginServer": workspace.login_server,
            "models": details.get("modelCount"),
            "images": details.get("imageCount"),
            "devices": len(devices),
            "connectedDevices": connected,
            "config": str(path),
        }
    )


def open_(
    url: Annotated[
        str | None, typer.Option(help="The server; this folder's, or the one here, if none is given.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Print a fresh one-time link into the portal."""
    out = Output(json_)
    with connect(url or _known_url()) as client:
        answer = client.call("POST", "/api/v1/sign-in-links")
    if json_:
        out.result(answer)
    else:
        typer.echo(answer["url"])
        typer.echo(f"It works once, until {answer['expiresAt']}.", err=True)


def _known_url() -> str:
    try:
        return read_config(find_config()).url
    except NotFound:
        return the_running_server().url
