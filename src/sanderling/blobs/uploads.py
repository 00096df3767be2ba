"""Resumable uploads as files: the size of the file is the offset.

    FOLDER/<32 hex digits>     the bytes so far; locked (flock) while a request writes

Nothing else is kept, so an upload survives a restart. The running hash is only
a short cut: when it does not fit the file any more, the file is read again.
"""

import fcntl
import os
import queue
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sanderling.blobs.hashing import HashingThread, Piece
from sanderling.blobs.port import BlobInfo, UploadBusy, UploadNotFound, WrongOffset
from sanderling.blobs.writer import ensure_folder, medium_errors, publish
from sanderling.errors import Unavailable
from sanderling.oci import Digest, DigestMismatch, Hasher

_ID = re.compile(r"[0-9a-f]{32}")
_MAX_HASHERS = 1024
_PIECE_BYTES = 1 << 20
_WRITE_BACK_BYTES = 8 << 20
# One is filled while two wait to be hashed and one is hashed.
_ROOMS = 4
_ROOM_BYTES = 256 << 10


class OpenUpload:
    """An upload that this request alone may write to; from any thread, one at a time."""

    def __init__(self, file: BinaryIO, folder: Path, hasher: Hasher | None) -> None:
        self._file, self._folder = file, folder
        self._hashing = None if hasher is None else HashingThread(hasher)
        self._written_back = self.offset
        self._rooms: queue.SimpleQueue[memoryview] | None = None
        self._room: memoryview | None = None

    @property
    def offset(self) -> int:
        """How many bytes are there."""
        return os.fstat(self._file.fileno()).st_size

    def write(self, pieces: Sequence[bytes]) -> None:
        """Add *pieces* at the end."""
        self._write(list(pieces))

    def room(self) -> memoryview:
        """Return memory to fill from its start; `filled` adds what is in it then. For bytes that need no copy."""
        if self._rooms is None:
            self._rooms = queue.SimpleQueue()
            for _ in range(_ROOMS):
                self._rooms.put(memoryview(bytearray(_ROOM_BYTES)))
        if self._room is None:
            self._room = self._rooms.get()
        return self._room

    def filled(self, count: int) -> None:
        """Add the first *count* bytes of the last room."""
        room, rooms = self._room, self._rooms
        assert room is not None, "room comes before filled"
        assert rooms is not None
        self._room = None
        self._write([room[:count]], partial(rooms.put, room))

    def _write(self, pieces: list[Piece], done: Callable[[], None] | None = None) -> None:
        with medium_errors(self._folder):
            for piece in pieces:
                rest = memoryview(piece)
                while rest:  # an unbuffered file may take less than it is given
                    rest = rest[self._file.write(rest) :]
            self._write_back()
        if self._hashing is not None:
            self._hashing.update(pieces, done)
        elif done is not None:
            done()

    def _write_back(self) -> None:
        """Let the disk begin, so that `sync` finds little left to do."""
        end = self.offset
        if end - self._written_back >= _WRITE_BACK_BYTES and hasattr(os, "posix_fadvise"):
            # Of pages that are not on the disk yet, this starts the writing; they stay in memory.
            length = end - self._written_back
            os.posix_fadvise(self._file.fileno(), self._written_back, length, os.POSIX_FADV_DONTNEED)
            self._written_back = end

    def settle(self) -> Hasher | None:
        """Return the running hash when it is of all that is there."""
        hasher = None if self._hashing is None else self._hashing.settle()
        return hasher if hasher is not None and hasher.size == self.offset else None

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of what is there, from the running hash where it fits."""
        running = self.settle()
        if running is not None and running.algorithm == algorithm:
            return running.digest()
        hasher = Hasher(algorithm)
        with medium_errors(self._folder):
            self._file.seek(0)
            while piece := self._file.read(_PIECE_BYTES):
                hasher.update(piece)
            self._file.seek(0, os.SEEK_END)
        return hasher.digest()

    def sync(self) -> None:
        """Put the bytes on the disk."""
        with medium_errors(self._folder):
            os.fsync(self._file.fileno())


class FileUploads:
    """The uploads in one folder; synchronous, safe for threads and processes."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = folder, clock
        self._hashers: OrderedDict[str, Hasher] = OrderedDict()

    def begin(self) -> str:
        """Return the id of a new, empty upload."""
        upload_id = uuid.uuid4().hex
        with medium_errors(self._folder):
            ensure_folder(self._folder)
            os.close(os.open(self._folder / upload_id, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._remember(upload_id, Hasher())
        return upload_id

    def offset(self, upload_id: str) -> int:
        """Return how many bytes are there; raise `UploadNotFound`."""
        try:
            return self._path(upload_id).stat().st_size
        except FileNotFoundError:
            raise UploadNotFound(upload_id) from None

    def read(self, upload_id: str, start: int, limit: int) -> bytes:
        """Return up to *limit* bytes from *start* of what is there; raise `UploadNotFound`."""
        try:
            with self._path(upload_id).open("rb", buffering=0) as file, medium_errors(self._folder):
                file.seek(start)
                return file.read(limit)
        except FileNotFoundError:
            raise UploadNotFound(upload_id) from None

    @contextmanager
    def opened(self, upload_id: str, offset: int | None = None) -> Iterator[OpenUpload]:
        """Hold the upload; *offset* is where the caller believes it ends.

        Raises `UploadNotFound`, `UploadBusy`, `WrongOffset`.
        """
        path = self._path(upload_id)
        try:
            # Unbuffered, so that the size of the file is always the whole truth.
            file = path.open("r+b", buffering=0)
        except FileNotFoundError:
            raise UploadNotFound(upload_id) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadBusy(upload_id) from None
            if not path.exists():  # ended between open and lock
                raise UploadNotFound(upload_id)
            end = file.seek(0, os.SEEK_END)
            if offset is not None and offset != end:
                raise WrongOffset(given=offset, expected=end)
            hasher = self._hashers.pop(upload_id, None)
            upload = OpenUpload(file, self._folder, hasher if hasher is not None and hasher.size == end else None)
            try:
                yield upload
            finally:
                running = upload.settle()
                if running is not None and path.exists():
                    self._remember(upload_id, running)

    def commit(self, upload_id: str, digest: Digest, target: Path) -> BlobInfo:
        """Verify the upload and give it the name *target*.

        When the disk cannot take it, the upload ends.
        """
        with self.opened(upload_id) as upload:
            actual, size = upload.digest(digest.algorithm), upload.offset
            if actual != digest:
                raise DigestMismatch(expected=digest, actual=actual)
            try:
                upload.sync()
            except Unavailable:
                # Bytes that could not be written are lost, and the next try would not say so: begin anew.
                self._path(upload_id).unlink(missing_ok=True)
                raise
            with medium_errors(self._folder):
                publish(self._path(upload_id), target, self._clock())
            return BlobInfo(digest, size)

    def abort(self, upload_id: str) -> None:
        """End the upload."""
        with self.opened(upload_id), medium_errors(self._folder):
            self._path(upload_id).unlink(missing_ok=True)

    def _path(self, upload_id: str) -> Path:
        if not _ID.fullmatch(upload_id):
            raise UploadNotFound(upload_id)
        return self._folder / upload_id

    def _remember(self, upload_id: str, hasher: Hasher) -> None:
        self._hashers[upload_id] = hasher
        while len(self._hashers) > _MAX_HASHERS:
            self._hashers.popitem(last=False)
