"""`sanderling demo`: the whole journey on this machine, with real digits."""

from pathlib import Path
from typing import Annotated

import typer

from sanderling.cli.build_log import BuildLog
from sanderling.cli.extras import needs_extra
from sanderling.cli.output import Output

EXAMPLE = "sanderling demo --check"


def demo(
    check: Annotated[
        bool,
        typer.Option("--check", help="Unattended; exit 0 only if every prediction agrees and no message is lost."),
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up at the end, for looking around, until Ctrl-C.")] = False,
    data: Annotated[Path, typer.Option(help="The folder for all that it makes.")] = Path("demo-data"),
) -> None:
    """Walk the whole journey here, with real digits.

    Train, register, build, push, deploy, score on a device, cut its link and restore it.
    """
    out = Output(as_json=False)
    out.step(f"The journey of a model to a device, in nine steps; what it makes is kept in {data}")
    with needs_extra("server,edge,demo"):
        from sanderling.demo import DemoOptions, run

    run(DemoOptions(data=data, unattended=check, keep=keep and not check), out.console, lambda: BuildLog(out))
