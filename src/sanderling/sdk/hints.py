"""The way out, carried by the error itself.

An error's first line says what is wrong. A note (PEP 678) says what to try, as
a command or a sentence; the command line prints it behind `try:`, and a plain
traceback shows it as well.
"""

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def hinted(error: E, *hints: str) -> E:
    """Return *error* with each hint as a note."""
    for hint in hints:
        error.add_note(hint)
    return error


def hints_of(error: BaseException) -> list[str]:
    """The notes of *error*, first one first."""
    return list(getattr(error, "__notes__", []))
