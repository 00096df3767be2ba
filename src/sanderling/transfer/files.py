"""Work with files without holding up the loop."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from sanderling.errors import Unavailable

PIECE_BYTES = 1 << 20

_T = TypeVar("_T")


async def to_its_end(work: Callable[[], _T], undo: Callable[[_T], object] | None = None) -> _T:
    """Run *work* in a thread, and wait for it even when cancelled.

    The caller closes the file next: a thread still at work would then write into
    whatever gets the number of that file. *undo* gets a result that nobody gets
    any more, as a file that was opened.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if undo is not None and not running.cancelled() and running.exception() is None:
            undo(running.result())
        raise


async def read_file(path: Path, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
    """Yield *length* bytes of the file from *start*, or all that come. Raises Unavailable when it cannot be read."""
    left = length
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while left is None or left > 0:
                wanted = PIECE_BYTES if left is None else min(PIECE_BYTES, left)
                piece = await to_its_end(partial(file.read, wanted))
                if not piece:
                    return
                if left is not None:
                    left -= len(piece)
                yield piece
    except OSError as e:
        raise Unavailable(f"{path} cannot be read: {e.strerror or e}") from e
