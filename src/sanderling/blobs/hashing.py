"""Hashes what is written, beside the writing: hashing is the slowest step of an upload.

The thread begins with the first large piece and ends with `settle`; what waits for it is bounded.
"""

import queue
import threading
from collections.abc import Callable

from sanderling.oci import Hasher

_WAITING = 2
_SMALL_BYTES = 1 << 20

Piece = bytes | memoryview


class HashingThread:
    """A running hash, updated in the order of the calls; for one caller at a time."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self._size = 0
        self._waiting: queue.Queue[tuple[list[Piece], Callable[[], None] | None] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None

    def update(self, pieces: list[Piece], done: Callable[[], None] | None = None) -> None:
        """Add *pieces*; return when there is room for the next. *done* is called when they may change again."""
        self._size += sum(map(len, pieces))
        if self._thread is None and self._size < _SMALL_BYTES:
            self._hash(pieces, done)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
            self._thread.start()
        self._waiting.put((pieces, done))

    def settle(self) -> Hasher:
        """Return the hash of all that was handed over, and end the thread."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
        return self._hasher

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            self._hash(*work)

    def _hash(self, pieces: list[Piece], done: Callable[[], None] | None) -> None:
        for piece in pieces:
            self._hasher.update(piece)
        if done is not None:
            done()
