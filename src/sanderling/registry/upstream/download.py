"""One blob on its way from an upstream into the store, for any number of readers.

              upstream
                 │  as fast as it and the store are
    ┌────────────▼───────────┐
    │ window, WINDOW_BYTES   │──▶ readers that keep up
    └────────────┬───────────┘
              upload ────────────▶ readers that came late or are slow (where the store can)
                 │ commit: verified
               blob  ────────────▶ all of them, from then on

- A reader never slows the download or another reader, and holds one piece.
- The last byte is given out only when the whole is verified and durable: a
  reader of damaged content is cut off, and cannot take it for whole.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from sanderling.blobs import BlobStore, ReadableUploads
from sanderling.errors import SanderlingError
from sanderling.oci import Digest

WINDOW_BYTES = 2 << 20
PIECE_BYTES = 1 << 18
# Small ones are waited for, so that a fault of the upstream is an answer and not a cut.
SMALL_BYTES = 1 << 20


class Download:
    """What has come of a blob. Fed by `Downloads`, read by `read`."""

    def __init__(self, digest: Digest, size: int, blobs: BlobStore) -> None:
        self.digest, self.size = digest, size
        self.upload_id: str | None = None
        self._blobs = blobs
        self._window = bytearray()
        self._received = 0  # the end of the window
        self._is_committed = False
        self._error: SanderlingError | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def received(self) -> int:
        """How many bytes have come."""
        return self._received

    @property
    def is_ended(self) -> bool:
        """Whether it is whole, or has failed."""
        return self._is_committed or self._error is not None

    def resume_at(self, upload_id: str, offset: int) -> None:
        """Begin at *offset*: that much is in the upload."""
        self.upload_id, self._received = upload_id, offset
        self._window.clear()
        self._wake()

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        self._window += piece
        self._received += len(piece)
        if (excess := len(self._window) - WINDOW_BYTES) > 0:
            del self._window[:excess]
        self._wake()

    def committed(self) -> None:
        """The blob is in the store."""
        self._is_committed = True
        self._window.clear()
        self._wake()

    def failed(self, error: SanderlingError) -> None:
        """Nothing more will come."""
        self._error = error
        self._window.clear()
        self._wake()

    async def begun(self, within_s: float) -> None:
        """Wait until there is something to answer with; raise what the download failed with, or TimeoutError."""
        async with asyncio.timeout(within_s):
            while not self.is_ended and (self.size <= SMALL_BYTES or self._received == 0):
                await self._changed()
        if self._error is not None:
            raise self._error

    async def read(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from *start* to *end* (excluded) as they come; raise what the download fails with."""
        position = start
        while position < end:
            if self._is_committed:
                stream: AsyncGenerator[bytes, None] = self._blobs.open(self.digest, position, end)  # type: ignore[assignment]
                async with aclosing(stream):
                    async for piece in stream:
                        yield piece
                return
            if self._error is not None:
                raise self._error
            piece = await self._find_piece(position, min(end, self._received, self.size - 1))
            if piece:
                position += len(piece)
                yield piece
            elif not self.is_ended:
                await self._changed()

    async def _find_piece(self, start: int, end: int) -> bytes:
        """Return some of what has come between *start* and *end*; empty when nothing of it can be had yet."""
        if start >= end:
            return b""
        begins = self._received - len(self._window)
        if start >= begins:
            with memoryview(self._window) as window:
                return bytes(window[start - begins : min(end - begins, start - begins + PIECE_BYTES)])
        if self.upload_id is None or not isinstance(self._blobs, ReadableUploads):
            return b""
        try:
            return await self._blobs.read_upload(self.upload_id, start, min(end - start, PIECE_BYTES))
        except SanderlingError:
            # It was committed or ended at this moment: the next turn sees which.
            return b""

    async def _changed(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
