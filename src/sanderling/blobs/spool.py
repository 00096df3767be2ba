"""What has come and was not sent on yet: a ring in a temporary file without a name.

- Memory holds one batch (256 KiB), the file at most `RING_BYTES`; then the writer waits for the reader.
- A reader that waits gets the batch from memory, past the disk.
- Nothing of it survives the process. The caller acknowledges only what was read and put in a safe place.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from sanderling.blobs.threads import to_its_end
from sanderling.blobs.writer import medium_errors

RING_BYTES = 64 << 20
_BATCH_BYTES = 1 << 18
_LOOK_S = 0.2


class SpoolClosed(Exception):
    """Nobody reads any more: what is written would be lost."""


class Spool:
    """A queue of bytes between one writer and one reader, who may be slower or wait for their turn."""

    def __init__(self, folder: Path | None, ring_bytes: int = RING_BYTES) -> None:
        with medium_errors(Path(folder or tempfile.gettempdir())):
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # closed in __exit__
        self._folder = Path(folder or tempfile.gettempdir())
        self._ring = ring_bytes
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._handed = b""
        self._written = self._read = 0  # bytes that went through the file
        self._is_ended = self._is_closed = self._is_awaited = False
        self._changed = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def waiting(self) -> int:
        """How many bytes can be read now."""
        return self._written - self._read + len(self._handed)

    @property
    def is_ended(self) -> bool:
        """Say whether no more will come."""
        return self._is_ended

    async def write(self, chunk: bytes) -> None:
        """Add *chunk*; wait while the ring is full. Raises `SpoolClosed`."""
        self._batch.append(chunk)
        self._batch_size += len(chunk)
        if self._batch_size >= _BATCH_BYTES:
            await self._flush()

    async def end(self) -> None:
        """Say that no more comes; what came can still be read."""
        try:
            await self._flush()
        finally:
            self._is_ended = True
            self._changed.set()

    def close(self) -> None:
        """Say that nobody reads any more."""
        self._is_closed = True
        self._changed.set()

    async def gather(self, size: int) -> bool:
        """Wait until *size* bytes can be read, or all that will come; False when there is nothing more."""
        while self.waiting < size and not self._is_ended:
            await self._change()
        return self.waiting > 0

    async def read(self, size: int, gives_way: Callable[[], bool]) -> bytes:
        """Return up to *size* bytes or a batch; b"" at the end, or when nothing is there and *gives_way* says so."""
        self._is_awaited = True
        try:
            while not self.waiting:
                if self._is_ended or gives_way():
                    return b""
                await self._change(_LOOK_S)
        finally:
            self._is_awaited = False
        if self._handed:
            piece, self._handed = self._handed, b""
        else:
            at = self._read % self._ring
            wanted = min(size, self.waiting, self._ring - at)
            with medium_errors(self._folder):
                piece = await to_its_end(partial(os.pread, self._file.fileno(), wanted, at))
            self._read += len(piece)
        self._changed.set()
        return piece

    async def _flush(self) -> None:
        content = b"".join(self._batch)
        self._batch, self._batch_size = [], 0
        rest = memoryview(content)
        while rest:
            if self._is_closed:
                raise SpoolClosed
            if self._is_awaited and not self.waiting:
                self._handed = bytes(rest)
                self._changed.set()
                return
            if self._handed or self.waiting >= self._ring:
                await self._change()
                continue
            at = self._written % self._ring
            room = min(len(rest), self._ring - self.waiting, self._ring - at)
            with medium_errors(self._folder):
                put = await to_its_end(partial(os.pwrite, self._file.fileno(), rest[:room], at))
            self._written += put
            rest = rest[put:]
            self._changed.set()

    async def _change(self, timeout_s: float | None = None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return
