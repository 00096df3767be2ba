"""`sanderling registry upstream`: add, list, show, enable, disable, remove."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from sanderling.cli.durations import METAVAR, parse_duration
from sanderling.cli.help import example
from sanderling.cli.output import JSON_HELP, Output, confirm
from sanderling.errors import Invalid
from sanderling.sdk.hints import hinted
from sanderling.sdk.registry_upstreams import RegistryUpstreams, Upstream
from sanderling.sdk.workspace import Workspace

app = typer.Typer(help="Other registries that this one pulls through and keeps.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The upstream's name.")]
_MAX_CA_BYTES = 1024 * 1024
_MAX_PASSWORD_CHARS = 65536


@app.command(
    epilog=example(
        "sanderling registry upstream add hub --registry docker.io",
        "sanderling registry upstream add quay --registry quay.io --username ci --password-stdin < quay.secret",
    )
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What its repositories here begin with.")],
    registry: Annotated[str, typer.Option(metavar="HOST[:PORT]", help="The registry to pull through.")],
    username: Annotated[str, typer.Option(help="Who signs in there; nobody when it is not given.")] = "",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")] = False,
    ttl: Annotated[
        str, typer.Option(metavar=METAVAR, help="How long a tag that is here is trusted before it is asked for again.")
    ] = "1h",
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="REPOSITORY|FOLDER/*", help="What may be pulled from it; all if none is given."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="The only CA to trust there (PEM).")] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Speak to it without TLS.")] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Answer clients that have this server as a mirror of it.")
    ] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Let everybody who is signed in pull.")] = False,
    json_: Json = False,
) -> None:
    """Pull through another registry. NAME/REPOSITORY here is REPOSITORY there.

    What was pulled once is kept, and served also when that registry cannot be reached.
    """
    out = Output(json_)
    if bool(username) != password_stdin:
        raise hinted(Invalid("--username and --password-stdin go together"), "--username U --password-stdin < FILE")
    workspace = Workspace.from_config()
    upstream = workspace.registry.upstreams.add(
        name,
        registry,
        username=username,
        password=_password() if password_stdin else "",
        ttl=parse_duration("--ttl", ttl),
        plain_http=plain_http,
        ca_pem=_certificates(ca) if ca is not None else "",
        mirror=mirror,
        shared=shared,
        only=only or (),
    )
    out.step(f"{upstream.registry} is pulled through as {upstream.name}")
    there = "library/debian:12" if upstream.registry == "docker.io" else "REPOSITORY:TAG"
    if not upstream.is_shared:
        out.detail(f"pulling is for: {_who(upstream)}; --shared lets everybody who is signed in")
    out.line("    sanderling registry login")
    out.line(f"    docker pull {workspace.login_server}/{upstream.name}/{there}")
    out.result(upstream.to_json())


@app.command("list", epilog=example("sanderling registry upstream list"))
def list_(json_: Json = False) -> None:
    """List the upstreams."""
    out = Output(json_)
    upstreams = _upstreams().list()
    out.table(
        ("NAME", "REGISTRY", "USER", "TTL", "MIRROR", "SHARED", "STATE"),
        [
            (
                one.name,
                one.registry,
                one.username or "nobody",
                _length(one.ttl),
                "yes" if one.is_mirror else "no",
                "yes" if one.is_shared else "no",
                _state(one).partition(":")[0],
            )
            for one in upstreams
        ],
        empty="no upstreams yet; sanderling registry upstream add --help",
    )
    out.result([one.to_json() for one in upstreams])


@app.command(epilog=example("sanderling registry upstream show hub"))
def show(name: Name, json_: Json = False) -> None:
    """Show one upstream, without its password."""
    _show(Output(json_), _upstreams().get(name))


@app.command(epilog=example("sanderling registry upstream disable hub"))
def disable(name: Name, json_: Json = False) -> None:
    """Ask an upstream for nothing; what is here is served."""
    _switch(name, False, json_)


@app.command(epilog=example("sanderling registry upstream enable hub"))
def enable(name: Name, json_: Json = False) -> None:
    """Ask an upstream again."""
    _switch(name, True, json_)


@app.command(epilog=example("sanderling registry upstream remove hub --yes"))
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: Json = False,
) -> None:
    """Forget an upstream and its password. What was pulled through stays."""
    out = Output(json_)
    upstreams = _upstreams()
    upstreams.get(name)
    confirm(f"Remove upstream {name!r}? What was pulled through stays.", yes)
    upstreams.remove(name)
    out.step(f"Removed {name}")
    out.result({"removed": name})


def _upstreams() -> RegistryUpstreams:
    return Workspace.from_config().registry.upstreams


def _switch(name: str, enabled: bool, json_: bool) -> None:
    out = Output(json_)
    upstream = _upstreams().enable(name, enabled)
    out.step(f"{name} is {'on' if upstream.is_enabled else 'off'}")
    out.result(upstream.to_json())


def _show(out: Output, upstream: Upstream) -> None:
    out.facts(
        [
            ("upstream", upstream.name),
            ("registry", f"{upstream.registry}{' (plain HTTP)' if upstream.is_plain_http else ''}"),
            ("user name", upstream.username or "nobody"),
            ("authority", "its own" if upstream.has_ca else "the system's"),
            ("tags are trusted for", _length(upstream.ttl)),
            ("repositories", ", ".join(upstream.only) or "all"),
            ("mirror", "yes" if upstream.is_mirror else "no"),
            ("who may pull", _who(upstream)),
            ("state", _state(upstream)),
        ]
    )
    out.result(upstream.to_json())


def _state(upstream: Upstream) -> str:
    if not upstream.is_enabled:
        return "off"
    return f"in trouble: {upstream.trouble}" if upstream.trouble else "on"


def _who(upstream: Upstream) -> str:
    if upstream.is_shared:
        return "everybody who is signed in"
    workspace, slash, _ = upstream.name.partition("/")
    return f"who may in {workspace}" if slash else "the owner, and devices whose deployment names it"


def _length(ttl: timedelta) -> str:
    seconds = int(ttl.total_seconds())
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % unit == 0:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def _password() -> str:
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, err=True)
    else:
        password = sys.stdin.read(_MAX_PASSWORD_CHARS).removesuffix("\n").removesuffix("\r")
    if not password:
        raise hinted(Invalid("the password on stdin is empty"), "--password-stdin < FILE")
    return password


def _certificates(file: Path) -> str:
    try:
        content = file.read_bytes()[:_MAX_CA_BYTES]
        return content.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not PEM text"
        raise hinted(Invalid(f"the CA file {file} cannot be read: {why}"), "--ca FILE") from error
