"""`sanderling registry serve`: the registry alone, in one process."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanderling.cli.extras import needs_extra
from sanderling.cli.output import JSON_HELP, Output
from sanderling.cli.store_options import Blobs, BlobsEndpoint, BlobsPlainHttp, BlobsRegion

if TYPE_CHECKING:
    from sanderling.server.registry_alone import RegistryInfo, RegistrySettings

EXAMPLE = "sanderling registry serve --root ./registry --port 5000"


def serve(
    root: Annotated[Path, typer.Option(help="The folder for everything that is kept.")] = Path("sanderling-registry"),
    port: Annotated[int, typer.Option(help="Where it answers.", min=0, max=65535)] = 5000,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; all if none is given, with --no-auth this machine's.")
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name for the certificate; the first is what clients are told."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="How clients reach it, https://NAME[:PORT], when a proxy stands before it.")
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let everybody push, pull and delete.")] = False,
    http: Annotated[
        bool, typer.Option("--http", help="Plain HTTP: passwords and images can be read on the way.")
    ] = False,
    upstream: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=REGISTRY", help="Pull REGISTRY through as NAME/..., such as hub=docker.io."),
    ] = None,
    upstreams: Annotated[
        Path | None, typer.Option(metavar="FILE", help="More of them, with credentials: a TOML file.")
    ] = None,
    blobs: Blobs = None,
    blobs_endpoint: BlobsEndpoint = None,
    blobs_region: BlobsRegion = None,
    blobs_plain_http: BlobsPlainHttp = False,
    json_: Annotated[bool, typer.Option("--json", help=f"{JSON_HELP} It comes once the registry answers.")] = False,
) -> None:
    """Run the registry alone until Ctrl-C. Any OCI client pushes, pulls and deletes.

    HTTPS with a certificate authority of its own. The user is admin; the password is made at the first
    start and kept in the folder, in secrets/admin-password.
    """
    out = Output(json_)
    with needs_extra("server"):
        from sanderling.server.registry_alone import RegistrySettings, run_registry
        from sanderling.server.settings import place_of_blobs

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = RegistrySettings(
        root=root,
        host=host,
        port=port,
        host_names=tuple(host_name or ()),
        public_url=public_url,
        is_open=no_auth,
        is_plain=http,
        upstreams=tuple(upstream or ()),
        upstreams_file=upstreams,
        blobs=place_of_blobs(blobs, blobs_endpoint, blobs_region, blobs_plain_http),
    )
    out.step(f"Starting the registry in {root}")
    run_registry(settings, lambda info: _show(out, settings, info))
    out.step("Stopped")


def _show(out: Output, settings: "RegistrySettings", info: "RegistryInfo") -> None:
    out.step("Ready; Ctrl-C stops it")
    out.facts(
        [
            ("    registry", info.login_server),
            ("    user", "admin" if info.password_file else ""),
            ("    password", f"in {info.password_file}" if info.password_file else ""),
            ("    CA", info.ca or ""),
            ("    data", info.root),
        ]
    )
    if settings.is_open:
        who = "on this machine" if settings.is_local else "who reaches this address"
        out.step(f"Warning: --no-auth lets everybody {who} push, pull and delete")
    elif settings.is_plain and not settings.is_local:
        out.step("Warning: --http sends passwords unprotected; leave it out, or put a proxy with TLS before it")
    if info.password_file:
        out.line(f"    docker login {info.login_server} --username admin --password-stdin < {info.password_file}")
    out.result(
        {
            "url": info.url,
            "loginServer": info.login_server,
            "username": "admin" if info.password_file else None,
            "passwordFile": str(info.password_file) if info.password_file else None,
            "ca": str(info.ca) if info.ca else None,
            "root": str(info.root),
        }
    )
