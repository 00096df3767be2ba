"""Writes docs/cli.md from the command line itself: python docs/cli_reference.py [--check]."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sanderling.cli.app import app

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command line

Written by `scripts/docs` from the commands' own help.

Exit codes: 0 done, 1 it failed, 2 wrong usage or bad input. With `--json`, standard output holds one JSON document and
nothing else. Shell completion: `sanderling --install-completion`.
"""


def pages(command: Any, name: str, parent: Any = None) -> Iterator[str]:
    """Yield the help of *command* and of all below it, in the order of the command line."""
    context = command.context_class(command, info_name=name, parent=parent, terminal_width=96, max_content_width=96)
    if command.hidden:
        return
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"## {context.command_path}\n\n```text\n{text}\n```\n"
    if hasattr(command, "list_commands"):
        for child in command.list_commands(context):
            yield from pages(command.get_command(context, child), child, context)


def main() -> None:
    text = "\n".join([HEAD, *pages(typer.main.get_command(app), "sanderling")])
    if "--check" in sys.argv:
        if not PAGE.exists() or PAGE.read_text() != text:
            sys.exit("docs/cli.md is not what the commands say; run scripts/docs")
        return
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
