"""The demo's tables: some digits, the ways of scoring, the steps."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sanderling.demo.answers import Answers
from sanderling.demo.training import Training

SHADES = " .:-=+*#%@"
SIDE = 8
PICTURES = 4
ROWS = 8


def picture(digit: Sequence[float]) -> str:
    """A digit of 8 by 8 numbers from 0 to 16 as eight lines of text."""
    top = len(SHADES) - 1
    points = [SHADES[min(top, int(value * top / 16 + 0.5))] * 2 for value in digit]
    return "\n".join("".join(points[row * SIDE : (row + 1) * SIDE]).rstrip() for row in range(SIDE))


def print_digits(console: Console, training: Training, answers: Sequence[Answers]) -> None:
    """A few digits as pictures, then some rows of truth, predictions, agreement and latency."""
    pictures = Table.grid(padding=(0, 3))
    for _ in range(PICTURES):
        pictures.add_column()
    pictures.add_row(*(Text(picture(digit), no_wrap=True) for digit in training.digits[:PICTURES]))
    pictures.add_row(*(Text(f"scored: {answers[0].predictions[n]}") for n in range(PICTURES)))
    console.print(pictures)
    ways = [one.way for one in answers]
    table = _table("#digit", "#is", "#model says", *(f"#{w}" for w in ways), "agree", *(f"#ms {w}" for w in ways))
    for index in range(min(ROWS, len(training.digits))):
        said = [a.predictions.get(index, -1) for a in answers]
        agree = all(one == training.expected[index] for one in said)
        times = [f"{1000 * a.seconds.get(index, 0):.1f}" for a in answers]
        cells = (index, training.truth[index], training.expected[index], *said, "yes" if agree else "NO", *times)
        table.add_row(*(str(cell) for cell in cells))
    console.print(table)
    if len(training.digits) > ROWS:
        console.print(f"    ... and {len(training.digits) - ROWS} more", markup=False)


def print_ways(console: Console, training: Training, answers: Sequence[Answers]) -> None:
    """For each way of scoring: how many, how many agree with the model, accuracy, latency."""
    table = _table("scored on the device", "#digits", "#agree", "#accuracy", "#ms median", "#ms 95%")
    for one in answers:
        count = len(one.predictions)
        right = sum(prediction == training.truth[index] for index, prediction in one.predictions.items())
        table.add_row(
            one.way,
            str(count),
            str(count - len(one.disagreements(training.expected))),
            f"{100 * right / count:.1f} %" if count else "",
            f"{one.median_ms:.1f}",
            f"{one.p95_ms:.1f}",
        )
    console.print(table)


def print_steps(console: Console, steps: Sequence[tuple[str, float]], sizes: Sequence[tuple[str, int]]) -> None:
    """Seconds of each step, and sizes."""
    table = _table("step", "#seconds")
    for name, seconds in steps:
        table.add_row(name, f"{seconds:.1f}")
    table.add_section()
    table.add_row("all", f"{sum(seconds for _, seconds in steps):.1f}")
    console.print(table)
    table = _table("size", "#bytes")
    for name, size in sizes:
        table.add_row(name, f"{size:,}")
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    return table
