"""Work in threads, and those who wait for it."""

import asyncio
import threading

import pytest

from sanderling.blobs.threads import to_its_end

pytestmark = pytest.mark.anyio


async def test_work_is_waited_for_however_often_it_is_cancelled() -> None:
    """A task group cancels anew at every step; the file must stay open for the thread."""
    begun, may_end = threading.Event(), threading.Event()
    ended = []

    def work() -> None:
        begun.set()
        ended.append(may_end.wait(10))

    task = asyncio.create_task(to_its_end(work))
    await asyncio.to_thread(begun.wait)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
