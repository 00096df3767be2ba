"""`sanderling registry token`: create, list, disable, enable, regenerate, delete."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from sanderling.cli.durations import METAVAR, parse_duration
from sanderling.cli.help import example
from sanderling.cli.output import JSON_HELP, Output, age_text, confirm
from sanderling.sdk.registry_tokens import ACTIONS, IssuedToken, RegistryToken
from sanderling.sdk.workspace import Workspace

app = typer.Typer(help="Named passwords for some repositories and actions.", no_args_is_help=True)

WIDE = 120
_WAY_OUT = {
    "disabled": "disabled: it is refused until sanderling registry token enable {}",
    "expired": "expired: it is refused; delete it, and create another",
}

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name.")]


@app.command(epilog=example("sanderling registry token create ci --repository digits --pull --push --expires 30d"))
def create(
    name: Name,
    repository: Annotated[
        list[str] | None,
        typer.Option(metavar="REPOSITORY|FOLDER/*", help="Where it is good; all of the workspace if none is given."),
    ] = None,
    pull: Annotated[bool, typer.Option("--pull", help="It may pull; so it is when nothing is said.")] = False,
    push: Annotated[bool, typer.Option("--push", help="It may push.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="It may delete.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="It may list repositories and tags, as who pulls may.")] = False,
    expires: Annotated[
        str | None, typer.Option(metavar=METAVAR, help="How long it is good; until it is deleted if not given.")
    ] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    json_: Json = False,
) -> None:
    """Make a token. Its password is shown this once.

    Who pushes also needs to pull: clients look what is there already.
    """
    out = Output(json_)
    given = [action for action, is_given in zip(ACTIONS, (pull, push, delete, list_), strict=True) if is_given]
    issued = Workspace.from_config().registry.tokens.create(
        name,
        repository or ["*"],
        given or ["pull"],
        expires_in=parse_duration("--expires", expires) if expires is not None else None,
        description=description,
    )
    _show_issued(out, issued)


@app.command("list", epilog=example("sanderling registry token list"))
def list_tokens(json_: Json = False) -> None:
    """List the workspace's tokens."""
    out = Output(json_)
    tokens = Workspace.from_config().registry.tokens.list()
    is_wide = out.fits(WIDE)
    has_devices = is_wide and any(token.device for token in tokens)
    out.table(
        (
            "TOKEN",
            *(("USER NAME",) if is_wide else ()),
            *("REPOSITORIES", "ACTIONS", "STATE", "EXPIRES", "LAST USED"),
            *(("DEVICE",) if has_devices else ()),
        ),
        [row for token in tokens for row in _rows(token, is_wide, has_devices)],
        empty="no tokens yet; sanderling registry token create --help",
    )
    out.result([token.to_json() for token in tokens])


@app.command(epilog=example("sanderling registry token disable ci"))
def disable(name: Name, json_: Json = False) -> None:
    """Switch a token off; it is refused at once."""
    _switch(name, False, json_)


@app.command(epilog=example("sanderling registry token enable ci"))
def enable(name: Name, json_: Json = False) -> None:
    """Switch a token on again."""
    _switch(name, True, json_)


@app.command(epilog=example("sanderling registry token regenerate ci"))
def regenerate(name: Name, json_: Json = False) -> None:
    """Give a token another password, shown this once. The one before is refused at once."""
    out = Output(json_)
    _show_issued(out, Workspace.from_config().registry.tokens.regenerate(name))


@app.command("delete", epilog=example("sanderling registry token delete ci --yes"))
def delete_token(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: Json = False,
) -> None:
    """Delete a token; it is refused at once."""
    out = Output(json_)
    tokens = Workspace.from_config().registry.tokens
    tokens.get(name)
    confirm(f"Delete token {name!r}? Whoever signs in with it is refused.", yes)
    tokens.delete(name)
    out.step(f"Deleted {name}")
    out.result({"deleted": name})


def _rows(token: RegistryToken, is_wide: bool, has_devices: bool) -> list[tuple[str, ...]]:
    """A row for each scope, so that actions stand beside their repositories however they are wrapped."""
    before = (token.name, *((token.username,) if is_wide else ()))
    after = (
        token.state,
        f"{token.expires_time:%Y-%m-%d}" if token.expires_time else "never",
        age_text(token.used_time),
        *((token.device or "",) if has_devices else ()),
    )
    scopes = [(scope.repositories, _actions(scope.actions)) for scope in token.scopes]
    first, *others = scopes or [("", "")]
    blank = (("",) * len(before), ("",) * len(after))
    return [(*before, *first, *after), *((*blank[0], *scope, *blank[1]) for scope in others)]


def _switch(name: str, enabled: bool, json_: bool) -> None:
    out = Output(json_)
    token = Workspace.from_config().registry.tokens.enable(name, enabled)
    out.step(f"{name} is {token.state}")
    out.result(token.to_json())


def _show_issued(out: Output, issued: IssuedToken) -> None:
    token = issued.token
    out.facts(
        [
            ("login server", issued.login_server),
            ("user name", issued.username),
            ("password", issued.password),
            *(("may", f"{_actions(scope.actions)} in {scope.repositories}") for scope in token.scopes),
            ("expires", _end(token)),
            ("state", _WAY_OUT.get(token.state, "").format(token.name)),
        ]
    )
    if not out.as_json:
        out.line()
        out.line("The password cannot be shown again. To sign in with it, on standard input:")
        out.line(f"    docker login {issued.login_server} --username {issued.username} --password-stdin")
    out.result({"loginServer": issued.login_server, **token.to_json(), "password": issued.password})


def _actions(actions: Sequence[str]) -> str:
    return ", ".join(action for action in ACTIONS if action in actions)


def _end(token: RegistryToken) -> str:
    if token.expires_time is None:
        return "never"
    days = (token.expires_time - datetime.now(UTC)).total_seconds() / 86400
    moment = f"{token.expires_time:%Y-%m-%d %H:%M} UTC"
    return f"{moment}, in {days:.0f} days" if days >= 2 else moment
