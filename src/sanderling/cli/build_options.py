"""The options that bound image builds, for the command that starts the server."""

from typing import Annotated

import typer

from sanderling.cli import durations

BuildWorkers = Annotated[int, typer.Option(metavar="N", min=1, max=64, help="How many images are built at once.")]
BuildTime = Annotated[str, typer.Option(metavar=durations.METAVAR, help="The longest that a build may take.")]
BuildMemory = Annotated[
    int | None,
    typer.Option(metavar="MB", min=512, help="The memory that each process of a build may reserve; no bound if none."),
]
GateTime = Annotated[
    str, typer.Option(metavar=durations.METAVAR, help="The longest that a script may take when it is tried.")
]
GateMemory = Annotated[
    int | None,
    typer.Option(
        metavar="MB", min=64, help="The memory that a script may take when it is tried; 3/4 of the machine's if none."
    ),
]
GateRequired = Annotated[
    bool, typer.Option("--gate-required", help="Fail builds where no sandbox can be made, in place of a warning.")
]
