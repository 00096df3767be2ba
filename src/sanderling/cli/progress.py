"""Progress of a transfer: bytes, rate and time left, for what takes longer than two seconds.

On a terminal it is a bar that is redrawn; elsewhere it is a plain line every
few seconds, so that a log stays readable.
"""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from sanderling.cli.output import Output, size_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_S = 2.0
LINE_EVERY_S = 5.0


def progress_line(name: str, done: int, total: int, elapsed_s: float) -> str:
    """One line: `model.pkl  12.0 of 48.0 MB  6.0 MB/s  6 s left`."""
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    parts = [name, f"{size_text(done)} of {size_text(total)}", f"{size_text(int(rate))}/s"]
    if rate > 0 and done < total:
        parts.append(f"{(total - done) / rate:.0f} s left")
    return "  ".join(parts)


class Meter:
    """Shows progress; call it with a name, bytes so far and bytes in all.

    A new name begins a new transfer. Nothing is shown for one that ends within two seconds.
    """

    def __init__(self, output: Output, clock: Callable[[], float] = monotonic) -> None:
        self._output, self._clock = output, clock
        self._name: str | None = None
        self._began = self._shown = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, name: str, done: int, total: int) -> None:
        now = self._clock()
        if name != self._name:
            self.close()
            self._name, self._began, self._shown = name, now, now
        elapsed_s = now - self._began
        if elapsed_s < QUIET_S:
            return
        if self._output.is_live:
            self._draw(name, done, total)
        elif now - self._shown >= LINE_EVERY_S or (done >= total and self._shown > self._began):
            self._shown = now
            self._output.line(f"    {progress_line(name, done, total, elapsed_s)}")

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = self._name = None

    def _draw(self, name: str, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = _bar(self._output)
            self._bar.start()
            self._task = self._bar.add_task(name, total=total)
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)


class Waiting:
    """A line that turns and counts seconds while nothing else is told; on a terminal only."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._line: Progress | None = None

    def show(self, text: str) -> None:
        """Show the line until `close`."""
        if not self._output.is_live:
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.close()
        columns = (
            TextColumn("   "),
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )
        self._line = Progress(*columns, console=self._output.console, transient=True)
        self._line.add_task(text, total=None)
        self._line.start()

    def close(self) -> None:
        """Take the line off the screen."""
        if self._line is not None:
            self._line.stop()
        self._line = None


def _bar(output: Output) -> "Progress":
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("    {task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=output.console,
        transient=True,
    )
