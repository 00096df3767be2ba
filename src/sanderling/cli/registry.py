"""`sanderling registry`: the registry's content and its credentials."""

from typing import Annotated

import typer

from sanderling.cli import registry_login, registry_serve, registry_space, registry_token, registry_upstream
from sanderling.cli.help import example
from sanderling.cli.output import JSON_HELP, Output, age_text, size_text
from sanderling.errors import Invalid
from sanderling.sdk.hints import hinted
from sanderling.sdk.registry import Credentials
from sanderling.sdk.workspace import Workspace

app = typer.Typer(help="Look into the registry and manage who may pull.", no_args_is_help=True)
app.command("serve", epilog=example(registry_serve.EXAMPLE))(registry_serve.serve)
app.command("login", epilog=example(registry_login.EXAMPLE))(registry_login.login)
app.add_typer(registry_token.app, name="token")
app.add_typer(registry_upstream.app, name="upstream")

SHORT_DIGEST = len("sha256:") + 12

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]


@app.command("list", epilog=example("sanderling registry list"))
def list_(json_: Json = False) -> None:
    """List the repositories and tags of the workspace."""
    out = Output(json_)
    workspace = Workspace.from_config()
    repositories = workspace.registry.repositories()
    digits = None if out.fits(120) else SHORT_DIGEST
    out.table(
        ("REPOSITORY", "TAG", "#SIZE", "PUSHED", "DIGEST"),
        [
            (repository.name, tag.name, size_text(tag.size_bytes), age_text(tag.pushed_time), tag.digest[:digits])
            for repository in repositories
            for tag in repository.tags
        ],
        empty="nothing in the registry yet; sanderling image build --help",
    )
    out.result(
        [
            {
                "name": repository.name,
                "tags": [
                    {
                        "name": tag.name,
                        "digest": tag.digest,
                        "sizeBytes": tag.size_bytes,
                        "pushedAt": tag.pushed_time.isoformat() if tag.pushed_time else None,
                    }
                    for tag in repository.tags
                ],
            }
            for repository in repositories
        ]
    )


@app.command(epilog=example("sanderling registry credentials --enable"))
def credentials(
    enable: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Switch the admin user on or off.", show_default=False)
    ] = None,
    regenerate: Annotated[
        str | None, typer.Option(metavar="password|password2", help="Replace this password; the other goes on working.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show the login server, the admin user and its two passwords."""
    out = Output(json_)
    registry = Workspace.from_config().registry
    if enable is False and regenerate:
        raise hinted(Invalid("--disable and --regenerate do not go together"), "one after the other")
    if enable is not None:
        registry.enable_admin(enable)
        out.step(f"The admin user is {'on' if enable else 'off'}")
    if regenerate is not None:
        registry.regenerate(regenerate)
        out.step(f"{regenerate} is new; whoever signed in with the old one is refused")
    shown = registry.credentials()
    _show(out, shown)
    out.result(
        {
            "loginServer": shown.login_server,
            "adminUserEnabled": shown.is_enabled,
            "username": shown.username,
            "passwords": [{"name": name, "value": value} for name, value in shown.passwords.items()],
        }
    )


def _show(out: Output, credentials: Credentials) -> None:
    out.facts(
        [
            ("login server", credentials.login_server),
            ("admin user", "on" if credentials.is_enabled else "off; sanderling registry credentials --enable"),
            ("user name", credentials.username),
            *credentials.passwords.items(),
        ]
    )


registry_space.add_to(app)
