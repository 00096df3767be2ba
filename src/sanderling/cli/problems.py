"""How an error is shown, and which exit code it gives: one table.

Invalid, NotFound, wrong usage      2: give something else
everything else that we expect      1: it failed
Ctrl-C                              130, as shells have it
"""

import os
import shutil
import sys
import traceback

import typer

from sanderling.cli.output import wrapped
from sanderling.errors import Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.sdk.hints import hints_of

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (Invalid, 2),
    (NotFound, 2),
    (SanderlingError, 1),
    (KeyboardInterrupt, 130),
)

# What to try when the error itself says nothing about it.
DEFAULT_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (Denied, "sanderling init, to sign in again"),
    (Unavailable, "sanderling status"),
)


def report(error: BaseException) -> int:
    """Print *error* to stderr and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if os.environ.get("SANDERLING_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        # The reader went away, as `head` does; what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, KeyboardInterrupt):
        _print("interrupted", [])
    elif isinstance(error, SanderlingError):
        _print(f"error: {_one_line(error.message)}", hints_of(error) or _default_hints(error))
    elif isinstance(error, typer.Abort):
        _print("error: not confirmed, so nothing was changed", ["--yes, to be asked nothing"])
    elif type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help is the answer
        print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
        return 2
    elif hasattr(error, "format_message"):  # wrong usage, as typer finds it
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "sanderling"
        _print(f"error: {_one_line(error.format_message())}", [f"{command} --help"])
        return 2
    else:
        _print(
            f"error: {type(error).__name__}: {_one_line(str(error))}; this is a fault in Sanderling",
            ["SANDERLING_DEBUG=1 and the same command, for the traceback to report"],
        )
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def _default_hints(error: BaseException) -> list[str]:
    return [hint for kind, hint in DEFAULT_HINTS if isinstance(error, kind)][:1]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _print(line: str, hints: list[str]) -> None:
    # Hints are commands to copy, so only the sentence is wrapped.
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    print(wrapped(line, width), file=sys.stderr)
    for hint in hints:
        print(f"try: {hint}", file=sys.stderr)
