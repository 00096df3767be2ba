"""Blobs in a folder.

    ROOT/sha256/ab/ab12...     a blob, under its digest, whole and verified
    ROOT/sha512/...
    ROOT/temporary/            being written by `BlobWriter`
    ROOT/uploads/              resumable uploads

The folder is for its owner alone. Several processes may use it at once.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sanderling.blobs.port import BlobInfo, BlobNotFound, StoredBlob
from sanderling.blobs.threads import to_its_end
from sanderling.blobs.uploads import FileUploads, OpenUpload
from sanderling.blobs.writer import BlobWriter, ensure_folder, medium_errors, unpublish_older
from sanderling.durable import sync_folder
from sanderling.errors import Invalid
from sanderling.oci import Digest

_READ_BYTES = 1 << 18
_BATCH_BYTES = 1 << 18
_COPY_BYTES = 1 << 20
_MAX_SMALL_BYTES = 64 << 20


class FileBlobs:
    """A folder of blobs: synchronous by `find` to `digests`, and the port `BlobStore`."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self.root, self._clock = root, clock
        with medium_errors(root):
            ensure_folder(root)
        self._uploads = FileUploads(root / "uploads", clock)

    def find(self, digest: Digest) -> BlobInfo | None:
        """Return the blob's size, or None when it is not there."""
        try:
            return BlobInfo(digest, self._path(digest).stat().st_size)
        except FileNotFoundError:
            return None

    def path(self, digest: Digest) -> Path:
        """Return the blob's file, to read only; raise `BlobNotFound`."""
        if self.find(digest) is None:
            raise BlobNotFound(digest)
        return self._path(digest)

    def writer(self, algorithm: str = "sha256") -> BlobWriter:
        """Return a context manager that writes one blob."""
        return BlobWriter(self.root / "temporary", self._path, algorithm, self._clock)

    def put(self, content: bytes) -> Digest:
        """Keep *content*; return its digest."""
        with self.writer() as writer:
            writer.write(content)
            return writer.commit()

    def put_file(self, source: Path, expected: Digest | None = None) -> Digest:
        """Keep a copy of the file *source*; raise `DigestMismatch` when it is not *expected*."""
        with source.open("rb") as file, self.writer() as writer:
            shutil.copyfileobj(file, writer, _COPY_BYTES)
            return writer.commit(expected)

    def read(self, digest: Digest) -> bytes:
        """Return the whole of a small blob; raise `BlobNotFound`, `Invalid` past 64 MiB."""
        path = self.path(digest)
        if path.stat().st_size > _MAX_SMALL_BYTES:
            raise Invalid(f"blob {digest} is too large to be read at once; stream it")
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise BlobNotFound(digest) from None

    def delete(self, digest: Digest) -> bool:
        """Remove the blob; say whether it was there."""
        path = self._path(digest)
        with medium_errors(self.root):
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            sync_folder(path.parent)
        return True

    def delete_older(self, digest: Digest, before: float) -> bool:
        """Remove the blob when it was last committed before *before*; say whether it went."""
        with medium_errors(self.root):
            return unpublish_older(self._path(digest), before)

    def digests(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no order; one that comes or goes meanwhile may be missed."""
        for algorithm in ("sha256", "sha512"):
            for file in (self.root / algorithm).glob("??/*"):
                info = self.find(Digest.parse(f"{algorithm}:{file.name}"))
                if info is not None:
                    yield info

    def remove_stale(self, before: float) -> int:
        """Remove what unfinished writes left and nobody touched since *before* (seconds of the epoch).

        Returns how many files went. Uploads count as unfinished writes.
        """
        removed = 0
        with medium_errors(self.root):
            for folder in (self.root / "temporary", self.root / "uploads"):
                for file in folder.glob("*"):
                    try:
                        if file.stat().st_mtime < before:
                            file.unlink()
                            removed += 1
                    except FileNotFoundError:  # it ended meanwhile
                        continue
        return removed

    def _path(self, digest: Digest) -> Path:
        return self.root / digest.algorithm / digest.hex[:2] / digest.hex

    # The port for servers: the same, off the event loop's thread.

    def find_path(self, digest: Digest) -> Path | None:
        """See `LocalFiles.find_path`."""
        return self._path(digest) if self.find(digest) is not None else None

    async def stat(self, digest: Digest) -> BlobInfo | None:
        """See `BlobStore.stat`."""
        return await asyncio.to_thread(self.find, digest)

    async def open(self, digest: Digest, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore.open`."""
        file = self._open(digest, start)
        try:
            position = start
            while end is None or position < end:
                wanted = _READ_BYTES if end is None else min(_READ_BYTES, end - position)
                piece = await to_its_end(partial(file.read, wanted))
                if not piece:
                    return
                position += len(piece)
                yield piece
        finally:
            file.close()

    async def begin_upload(self) -> str:
        """See `BlobStore.begin_upload`."""
        return await asyncio.to_thread(self._uploads.begin)

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore.append`."""
        # Opening, locking and closing are short; the writes are not.
        with self._uploads.opened(upload_id, offset) as upload:
            await self._append(upload, chunks)
            return upload.offset

    @contextmanager
    def appending(self, upload_id: str, offset: int) -> Iterator[OpenUpload]:
        """Hold the upload to write to it at *offset*, without `append`'s event loop.

        Raises `UploadNotFound`, `UploadBusy`, `WrongOffset`. What was written stays, whatever happens.
        """
        with self._uploads.opened(upload_id, offset) as upload:
            yield upload

    async def upload_offset(self, upload_id: str) -> int:
        """See `BlobStore.upload_offset`."""
        return await asyncio.to_thread(self._uploads.offset, upload_id)

    async def read_upload(self, upload_id: str, start: int, limit: int) -> bytes:
        """See `ReadableUploads.read_upload`."""
        return await asyncio.to_thread(self._uploads.read, upload_id, start, limit)

    async def commit(self, upload_id: str, digest: Digest) -> BlobInfo:
        """See `BlobStore.commit`."""
        return await asyncio.to_thread(self._uploads.commit, upload_id, digest, self._path(digest))

    async def abort(self, upload_id: str) -> None:
        """See `BlobStore.abort`."""
        await asyncio.to_thread(self._uploads.abort, upload_id)

    async def remove(self, digest: Digest) -> None:
        """See `BlobStore.remove`."""
        await asyncio.to_thread(self.delete, digest)

    async def stored(self) -> AsyncIterator[StoredBlob]:
        """See `BlobStore.stored`."""
        for folder in await asyncio.to_thread(self._folders):
            for blob in await asyncio.to_thread(self._stored_in, folder):
                yield blob

    async def remove_if_older(self, digest: Digest, before: float) -> bool:
        """See `BlobStore.remove_if_older`."""
        return await asyncio.to_thread(self.delete_older, digest, before)

    async def end_stale_uploads(self, before: float) -> int:
        """See `BlobStore.end_stale_uploads`."""
        return await asyncio.to_thread(self.remove_stale, before)

    def _folders(self) -> list[Path]:
        with medium_errors(self.root):
            return [folder for algorithm in ("sha256", "sha512") for folder in (self.root / algorithm).glob("??")]

    def _stored_in(self, folder: Path) -> list[StoredBlob]:
        found = []
        with medium_errors(self.root):
            for file in folder.iterdir():
                try:
                    told = file.stat()
                except FileNotFoundError:  # it went meanwhile
                    continue
                digest = Digest.parse(f"{folder.parent.name}:{file.name}")
                found.append(StoredBlob(digest, told.st_size, told.st_mtime))
        return found

    def _open(self, digest: Digest, start: int) -> BinaryIO:
        try:
            file = self._path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise BlobNotFound(digest) from None
        file.seek(start)
        return file

    async def _append(self, upload: OpenUpload, chunks: AsyncIterable[bytes]) -> None:
        batch: list[bytes] = []
        size = 0
        try:
            async for chunk in chunks:
                batch.append(chunk)
                size += len(chunk)
                if size >= _BATCH_BYTES:
                    full, batch, size = batch, [], 0
                    await to_its_end(partial(upload.write, full))
        finally:
            # Also when the peer has gone: what it sent is kept for its next try.
            if batch:
                upload.write(batch)
            await to_its_end(upload.settle)
