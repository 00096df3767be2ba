"""`sanderling edge`: the edge runtime, on the device."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from sanderling.cli.extras import needs_extra
from sanderling.cli.help import example
from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.sdk.hints import hinted

app = typer.Typer(help="Run the edge runtime on this device.", no_args_is_help=True)

Engine = Literal["auto", "docker", "bubblewrap"]
MAX_CONNECTION_STRING_BYTES = 4096


@app.callback()
def edge() -> None:
    """Run the edge runtime on this device."""


@app.command(epilog=example("sanderling edge run --connection-string-file press-4.secret --ca ca.pem --data ./edge"))
def run(
    connection_string_file: Annotated[
        Path | None,
        typer.Option(help="The file that holds it; else SANDERLING_CONNECTION_STRING, else a line on stdin."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="The CA that signed the server's certificate.")] = None,
    data: Annotated[Path, typer.Option(help="The folder for the device's state.")] = Path("sanderling-edge"),
    engine: Annotated[Engine, typer.Option(help="What runs the modules.")] = "auto",
    gateway_port: Annotated[int, typer.Option(help="Where modules connect, MQTT over TLS.", min=1, max=65535)] = 8883,
    gateway_host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The address that modules and other devices connect to.")
    ] = None,
    stop_modules: Annotated[
        bool,
        typer.Option("--stop-modules", help="End the modules with it; Docker's would go on, bubblewrap's never do."),
    ] = False,
) -> None:
    """Run modules as the hub wants them, and carry their messages, until Ctrl-C."""
    if ca is not None and not ca.is_file():
        raise NotFound(f"the CA file {ca} is not there")
    secret = _connection_string(connection_string_file)
    with needs_extra("edge"):
        from sanderling.edge import EdgeSettings
        from sanderling.edge import main as run_edge

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # One line for each request would drown what matters.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = EdgeSettings(
        connection_string=secret,
        ca=ca,
        data=data,
        engine=engine,
        gateway_port=gateway_port,
        gateway_host=gateway_host,
        stop_modules=stop_modules,
    )
    try:
        run_edge(settings)
    except Unavailable as error:
        # The server is not asked about what this device cannot do.
        raise hinted(error, "sanderling edge run --help") from None


def _connection_string(file: Path | None) -> str:
    if file is not None:
        try:
            text = file.read_text()[:MAX_CONNECTION_STRING_BYTES]
        except (OSError, UnicodeDecodeError) as error:
            raise hinted(
                Invalid(f"{file} cannot be read: {getattr(error, 'strerror', 'not text')}"),
                "sanderling device connection-string DEVICE --to FILE",
            ) from error
    else:
        text = os.environ.pop("SANDERLING_CONNECTION_STRING", "")
        if not text and not sys.stdin.isatty():
            text = sys.stdin.readline(MAX_CONNECTION_STRING_BYTES)
    if not text.strip():
        raise hinted(
            Invalid("the device's connection string is missing"),
            "--connection-string-file FILE, from: sanderling device connection-string DEVICE --to FILE",
        )
    return text.strip()
