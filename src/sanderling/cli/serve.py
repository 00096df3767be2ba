"""`sanderling serve`: run a scoring script right here, with no image."""

import ast
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from sanderling.errors import Conflict, Invalid, NotFound
from sanderling.sdk.hints import hinted

EXAMPLE = "sanderling serve score.py --port 5001 --model-dir ./models"


def serve(
    script: Annotated[Path, typer.Argument(help="The scoring script, with init() and run(raw_data).")],
    port: Annotated[int, typer.Option(help="Where /score answers.", min=1, max=65535)] = 5001,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    model_dir: Annotated[
        Path | None, typer.Option(help="The folder that AZUREML_MODEL_DIR names; the script's own if none is given.")
    ] = None,
) -> None:
    """Run a scoring script right here, with no image.

    It is the server that images have, and the quickest test of a script. Ctrl-C ends it.
    """
    if not script.is_file():
        raise hinted(NotFound(f"{script} is not there"), EXAMPLE)
    if script.suffix != ".py" or not os.access(script, os.R_OK):
        raise Invalid(f"{script} is not a Python file that can be read")
    _check_script(script)
    if model_dir is not None and not model_dir.is_dir():
        raise NotFound(f"the model folder {model_dir} is not there")
    _check_port(host, port)
    folder = script.absolute().parent
    os.environ.update(
        AML_APP_ROOT=str(folder),
        AZUREML_ENTRY_SCRIPT=script.name,
        AZUREML_MODEL_DIR=str((model_dir or folder).absolute()),
        SERVER_HOST=host,
        SERVER_PORT=str(port),
    )
    os.chdir(folder)
    # The scoring server takes this process over: signals and the exit code are its own.
    os.execv(sys.executable, [sys.executable, "-m", "sanderling_scoring"])


def _check_script(script: Path) -> None:
    """Refuse what can never score, before the scoring server says it with a traceback."""
    try:
        tree = ast.parse(script.read_bytes(), filename=str(script))
    except SyntaxError as error:
        raise Invalid(f"{script}, line {error.lineno}: this is no Python: {error.msg}") from error
    except ValueError as error:
        raise Invalid(f"{script} cannot be parsed as Python: {error}") from error
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
    for wanted, argument in (("init", ""), ("run", "raw_data")):
        if not {wanted, "*"} & names:
            raise Invalid(f"{script} has no function {wanted!r}; add 'def {wanted}({argument}): ...'")


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise hinted(
                Conflict(f"port {port} on {host} cannot be used: {error.strerror}"), "another one: --port PORT"
            ) from error
