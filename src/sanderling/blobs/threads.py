"""Work in threads on files that are closed afterwards."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


async def to_its_end(work: Callable[[], _T]) -> _T:
    """Run *work* in a thread, and wait for it even when cancelled.

    The caller closes the file next: a thread still at work would then read or
    write whatever gets the number of that file.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():  # a task group cancels again and again
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        running.exception()  # seen: nobody is left whom it concerns
        raise
