"""The tree of commands, and the one place where errors become exit codes."""

import sys

import typer

from sanderling.cli import (
    demo,
    deploy,
    device,
    edge,
    image,
    init,
    messages,
    model,
    registry,
    serve,
    status,
    up,
)
from sanderling.cli.help import example
from sanderling.cli.problems import report

INTERRUPTED = 130

app = typer.Typer(
    name="sanderling",
    help="From a trained model to predictions on edge devices, on your own machines.",
    epilog=example("sanderling up", "sanderling init --name demo"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the rich help takes 0.15 s to import
)

app.command("up", epilog=example(up.EXAMPLE))(up.up)
app.command("demo", epilog=example(demo.EXAMPLE))(demo.demo)
app.command("serve", epilog=example(serve.EXAMPLE))(serve.serve)
app.add_typer(edge.app, name="edge")
app.command("init", epilog=example(init.EXAMPLE))(init.init)
app.command("deploy", epilog=example(deploy.EXAMPLE))(deploy.deploy)
app.command("messages", epilog=example(messages.EXAMPLE))(messages.messages)
app.command("status", epilog=example(status.STATUS_EXAMPLE))(status.status)
app.command("open", epilog=example(status.OPEN_EXAMPLE))(status.open_)
app.add_typer(model.app, name="model")
app.add_typer(image.app, name="image")
app.add_typer(registry.app, name="registry")
app.add_typer(device.app, name="device")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow to import, and needed only here

        typer.echo(f"sanderling {version('sanderling')}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """From a trained model to predictions on edge devices, on your own machines."""


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = app(standalone_mode=False, prog_name="sanderling")
    except BaseException as error:  # noqa: BLE001 - the outermost edge: whatever comes is shown and gives a code
        code = report(error)
    if code == INTERRUPTED:  # typer makes this of Ctrl-C, without a word
        print("interrupted", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)
