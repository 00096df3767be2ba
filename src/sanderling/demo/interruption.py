"""Ctrl-C, at a moment when it can be obeyed.

A signal becomes a KeyboardInterrupt in the main thread, but not while something
is half done that must be known to the clean-up, such as a process that was
started and is not in the list yet: then it waits until that is over.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Takes the signals while it is entered, which must be in the main thread."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_pending = False
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> "Interruption":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no signal interrupt the block; one that came is obeyed at its end."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and self._is_pending:
                self._is_pending = False
                raise KeyboardInterrupt

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Let no signal interrupt the block, and forget those that came: for the clean-up itself."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._is_pending = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._depth:
            self._is_pending = True
        else:
            raise KeyboardInterrupt
