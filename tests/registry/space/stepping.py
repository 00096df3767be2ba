"""A store whose every step waits until the test lets it go on, and a loop that runs until all wait.

`SteppingBlobs` behaves as an S3 store may: it looks at a blob's time in one step, and removes it in
another, so that a commit can come between the two.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sanderling.blobs import BlobInfo, FileBlobs, StoredBlob
from sanderling.oci import Digest


@dataclass
class Gate:
    """Where one task waits."""

    name: str
    opened: asyncio.Event


class SteppingBlobs:
    """The port over files, step by step. Without a scheduler that waits, all goes through at once."""

    def __init__(self, files: FileBlobs) -> None:
        self.files = files
        self.is_stepping = True
        self.gates: list[Gate] = []

    async def _gate(self, name: str) -> None:
        if self.is_stepping:
            gate = Gate(name, asyncio.Event())
            self.gates.append(gate)
            await gate.opened.wait()

    async def stat(self, digest: Digest) -> BlobInfo | None:
        await self._gate("stat")
        return await self.files.stat(digest)

    def open(self, digest: Digest, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return self.files.open(digest, start, end)

    async def begin_upload(self) -> str:
        return await self.files.begin_upload()

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterable[bytes]) -> int:
        return await self.files.append(upload_id, offset, chunks)

    async def upload_offset(self, upload_id: str) -> int:
        return await self.files.upload_offset(upload_id)

    async def commit(self, upload_id: str, digest: Digest) -> BlobInfo:
        await self._gate("commit")
        info = await self.files.commit(upload_id, digest)
        await self._gate("committed")
        return info

    async def abort(self, upload_id: str) -> None:
        await self.files.abort(upload_id)

    async def remove(self, digest: Digest) -> None:
        await self.files.remove(digest)

    async def stored(self) -> AsyncIterator[StoredBlob]:
        async for blob in self.files.stored():
            yield blob
        await self._gate("listed")

    async def remove_if_older(self, digest: Digest, before: float) -> bool:
        await self._gate("look")
        info = [blob async for blob in self.files.stored() if blob.digest == digest]
        if not info or info[0].modified_at >= before:
            return False
        await self._gate("remove")
        await self.files.remove(digest)
        await self._gate("removed")
        return True

    async def end_stale_uploads(self, before: float) -> int:
        return 0


class InLine(ThreadPoolExecutor):
    """An executor without threads: what a test does comes in one order, the same each time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as e:  # noqa: BLE001 - as the executor it stands for
            future.set_exception(e)
        return future


class Steps:
    """Tasks that go on one step at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, blobs: SteppingBlobs) -> None:
        self._loop, self._blobs = loop, blobs
        loop.set_default_executor(InLine(1))
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin *work*, and run until it waits or has ended."""
        task = self._loop.create_task(work)
        self.tasks.append(task)
        self.settle()
        return task

    def open(self, position: int = 0, name: str = "") -> bool:
        """Let the gate at *position* go (of those called *name*); False when there is none."""
        gates = [gate for gate in self._blobs.gates if name in ("", gate.name)]
        if not gates:
            return False
        gate = gates[position % len(gates)]
        self._blobs.gates.remove(gate)
        gate.opened.set()
        self.settle()
        return True

    def settle(self) -> None:
        """Run until every task waits at a gate, or has ended, or polls."""
        self._loop.run_until_complete(self._settle())

    def finish(self) -> None:
        """Let all go on to the end."""
        self._blobs.is_stepping = False
        while self._blobs.gates:
            self.open()
        if self.tasks:
            self._loop.run_until_complete(asyncio.wait(self.tasks, timeout=20))
        self._blobs.is_stepping = True
        assert all(task.done() for task in self.tasks)
        self.tasks.clear()

    async def _settle(self) -> None:
        for _ in range(1000):  # past that, who is left polls
            await asyncio.sleep(0)
            self.tasks = [task for task in self.tasks if not task.done()]
            if len(self.tasks) <= len(self._blobs.gates):
                return
