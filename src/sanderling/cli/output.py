"""What commands print: steps, tables and one JSON document.

For people, all goes to stdout. With `--json`, people's text goes to stderr and
stdout gets the document alone.
"""

import json
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sanderling.errors import Invalid
from sanderling.sdk.hints import hinted

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 200
JSON_HELP = "Print one JSON document on stdout; everything else goes to stderr."


class Output:
    """Where one command prints.

    With `--json` tables and facts are not printed at all: the document says the same, and what it
    holds may be secret, while standard error often ends up in a log.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    @cached_property
    def console(self) -> "Console":
        from rich.console import Console  # slow to import, and `--help` does not need it

        # Names of images have colons, and are no pictures: oci:cat:1.
        console = Console(stderr=self.as_json, highlight=False, soft_wrap=True, emoji=False)
        if not console.is_terminal:
            console.width = WIDTH  # nobody's window: a table in a file is not folded
        return console

    @property
    def is_live(self) -> bool:
        """Whether lines can be redrawn."""
        return self.console.is_terminal

    def fits(self, width: int) -> bool:
        """Whether *width* columns fit the window; all do where there is none."""
        return self.console.width >= width

    def step(self, text: str) -> None:
        """Say what is being done; on a terminal, lines end between words."""
        self.console.print(wrapped(f"--> {text}", self._window), markup=False)

    def detail(self, text: str) -> None:
        """Say more about the step, below it."""
        self.console.print(wrapped(f"    {text}", self._window), markup=False)

    @property
    def _window(self) -> int | None:
        return self.console.width if self.is_live else None

    def line(self, text: str = "") -> None:
        """Print one line as it is: it may be a command to copy."""
        self.console.print(text, markup=False)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "") -> None:
        """Print a table; a column whose name begins with `#` is aligned right. *empty* is printed for no rows."""
        if self.as_json:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        if not rows:
            if empty:
                self.line(empty)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(
                column.removeprefix("#"), justify="right" if column.startswith("#") else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
        self.console.print(table, soft_wrap=False)

    def facts(self, pairs: Sequence[tuple[str, object]]) -> None:
        """Print names and values below each other; those without a value are left out."""
        if self.as_json:
            return
        shown = [(name, str(value)) for name, value in pairs if value not in (None, "")]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self.line(f"{name.ljust(width)}  {value}")

    def result(self, value: Any) -> None:
        """Print the JSON document, when it was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
            sys.stdout.flush()


def wrapped(text: str, width: int | None) -> str:
    """Return *text* with line ends between words, and what follows indented; as it is when *width* is None."""
    if width is None or len(text) <= width:
        return text
    indent = " " * (len(text) - len(text.lstrip()) + 4)
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def count_text(count: int, noun: str) -> str:
    """A count and its noun, which takes an s: 1 file, 2 files."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def confirm(question: str, yes: bool) -> None:
    """Ask before something is lost; without a terminal, `--yes` must say so."""
    import typer

    if yes:
        return
    if not sys.stdin.isatty():
        raise hinted(Invalid(f"{question} Nobody can be asked here, and --yes is not given"), "the same with --yes")
    typer.confirm(question, abort=True, err=True)


def pairs_of(label: str, items: Sequence[str]) -> dict[str, str]:
    """Parse `key=value` options."""
    pairs = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise hinted(Invalid(f"--{label} {item!r} is not KEY=VALUE"), f"--{label} stage=test")
        pairs[key] = value
    return pairs


def size_text(size: int | None) -> str:
    """Bytes for people: 812 B, 1.4 kB, 23.0 MB."""
    if size is None:
        return ""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            return f"{value:.1f} {unit}"
    raise AssertionError


def age_text(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, for people: 12 s ago, 3 min ago, 2026-05-01 10:00."""
    if moment is None:
        return "never"
    now = now or datetime.now(UTC)
    seconds = max(0, int((now - moment).total_seconds()))
    if seconds < 90:
        return f"{seconds} s ago"
    if seconds < 90 * 60:
        return f"{seconds // 60} min ago"
    if seconds < 36 * 3600:
        return f"{seconds // 3600} h ago"
    return moment.strftime("%Y-%m-%d %H:%M")


def tags_text(tags: dict[str, Any]) -> str:
    """Tags for people: `a=b, c=d`."""
    return ", ".join(f"{key}={value}" for key, value in tags.items())
