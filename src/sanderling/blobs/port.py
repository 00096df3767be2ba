"""What a store of blobs promises, whatever it keeps them in.

- A blob appears under its digest only when it is whole, verified and durable.
- Putting what is there already succeeds; removing what is not there does too.
- An upload survives the process: its offset is what the store has of it.
"""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from sanderling.errors import Conflict, NotFound, Unavailable
from sanderling.oci import Digest


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob that is there, and its size in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as the store lists it. `modified_at`: when it was last committed, in seconds of the epoch (UTC)."""

    digest: Digest
    size: int
    modified_at: float


class StoreFull(Unavailable):
    """The medium has no room for more; what is there can still be read."""


class BlobNotFound(NotFound):
    """No blob has this digest."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"blob {digest} is not in the store")
        self.digest = digest


class UploadNotFound(NotFound):
    """The upload never was, or has ended."""

    def __init__(self, upload_id: str) -> None:
        super().__init__("the upload is not known or has ended; begin a new one")
        self.upload_id = upload_id


class UploadBusy(Conflict):
    """Another request writes to the same upload."""

    def __init__(self, upload_id: str) -> None:
        super().__init__("another request writes to this upload; ask for its offset when that has ended")
        self.upload_id = upload_id


class WrongOffset(Conflict):
    """The piece does not begin where the upload ends."""

    def __init__(self, *, given: int, expected: int) -> None:
        super().__init__(f"the piece begins at byte {given}, but the upload goes on at byte {expected}")
        self.given, self.expected = given, expected


class BlobStore(Protocol):
    """The port for servers. All raise `Unavailable` when the medium fails, `StoreFull` when it has no room."""

    async def stat(self, digest: Digest) -> BlobInfo | None:
        """Return the blob's size, or None when it is not there."""

    def open(self, digest: Digest, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from *start* up to, not including, *end*.

        Raises `BlobNotFound` at the first step. A reader that has begun gets
        all of it, even when the blob is removed meanwhile.
        """

    async def begin_upload(self) -> str:
        """Return the id of a new upload with offset 0."""

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterable[bytes]) -> int:
        """Add *chunks* at *offset*; return the new offset.

        Raises `UploadNotFound`, `UploadBusy`, `WrongOffset`. When *chunks*
        raises, what came before stays, and the upload goes on from there.
        """

    async def upload_offset(self, upload_id: str) -> int:
        """Return how many bytes the store has; raise `UploadNotFound`."""

    async def commit(self, upload_id: str, digest: Digest) -> BlobInfo:
        """Make the upload the blob *digest* and end it.

        A blob that is there already counts as committed now: `modified_at` is
        the time of the last commit. Raises `DigestMismatch`, and the upload
        stays for the caller to abort; `UploadNotFound`, `UploadBusy`.
        """

    async def abort(self, upload_id: str) -> None:
        """End the upload and forget its bytes; raise `UploadNotFound`, `UploadBusy`."""

    async def remove(self, digest: Digest) -> None:
        """Remove the blob, if it is there."""

    def stored(self) -> AsyncIterator[StoredBlob]:
        """Yield every blob, in no order; one that comes or goes meanwhile may be missed."""

    async def remove_if_older(self, digest: Digest, before: float) -> bool:
        """Remove the blob when its last commit was before *before* (seconds of the epoch); say whether it went.

        Look and removal are one step against every server's `commit`: what was
        committed meanwhile stays, or is there again when that commit returns.
        """

    async def end_stale_uploads(self, before: float) -> int:
        """End uploads that nobody added to since *before*, and what broken writes left; say how many went."""


@runtime_checkable
class ReadableUploads(Protocol):
    """What a store may offer besides: the bytes that an upload has so far, before they are verified."""

    async def read_upload(self, upload_id: str, start: int, limit: int) -> bytes:
        """Return up to *limit* bytes from *start*; empty when they are not there yet. Raises `UploadNotFound`."""


class UploadWriter(Protocol):
    """An upload that is held for writing; from any thread, one at a time."""

    @property
    def offset(self) -> int:
        """How many bytes are there."""

    def write(self, pieces: Sequence[bytes]) -> None:
        """Add *pieces* at the end. Blocks. Raises `Unavailable`; what was written stays."""

    def room(self) -> memoryview:
        """Return memory that the caller fills from its start. Blocks until there is some."""

    def filled(self, count: int) -> None:
        """Add the first *count* bytes of the last `room`; as `write`."""


@runtime_checkable
class LocalFiles(Protocol):
    """What a store can do besides, that keeps blobs and uploads as files of this machine: no byte need cross Python."""

    def find_path(self, digest: Digest) -> Path | None:
        """Return the blob's file, to read only, or None when it is not there."""

    def appending(self, upload_id: str, offset: int) -> AbstractContextManager[UploadWriter]:
        """Hold the upload to write to it at *offset*; raise as `BlobStore.append` does."""
