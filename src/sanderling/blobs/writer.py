"""Files that appear whole or not at all: temporary file, fsync, rename, fsync of the folder."""

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from sanderling.blobs.port import StoreFull
from sanderling.durable import sync_folder
from sanderling.errors import Unavailable
from sanderling.oci import Digest, DigestMismatch, Hasher

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


@contextmanager
def medium_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into `Unavailable`, and a full disk into `StoreFull`."""
    try:
        yield
    except OSError as e:
        if e.errno in _FULL:
            raise StoreFull(f"blobs in {folder.name!r}: {_FULL[e.errno]}; free some room and try again") from e
        raise Unavailable(f"blobs in {folder.name!r}: {e.strerror or 'input/output error'}") from e


def ensure_folder(folder: Path) -> None:
    """Make *folder* and its parents, for the owner alone, durably."""
    if not folder.is_dir():
        ensure_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def publish(source: Path, target: Path, now: float) -> None:
    """Give the synced file *source* the name *target*, durably; replace what is there.

    The time of the file becomes *now*: `unpublish_older` goes by it. Many may
    publish in a folder at once, but not while one removes.
    """
    ensure_folder(target.parent)
    with _locked(target.parent, fcntl.LOCK_SH):
        os.utime(source, (now, now))
        source.replace(target)
    sync_folder(target.parent)


def unpublish_older(target: Path, before: float) -> bool:
    """Remove *target* when it was published before *before*; say whether it went.

    The look and the removal are one step: nobody, in no process, publishes in the folder meanwhile.
    """
    try:
        with _locked(target.parent, fcntl.LOCK_EX):
            if target.stat().st_mtime >= before:
                return False
            target.unlink()
    except FileNotFoundError:
        return False
    # Not synced: a name that comes back after a power cut is garbage still, and goes with the next run.
    return True


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


class BlobWriter:
    """Writes one blob; leaving the context without `commit` leaves nothing."""

    def __init__(
        self, folder: Path, path_of: Callable[[Digest], Path], algorithm: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._path_of, self._clock = folder, path_of, clock
        self._hasher = Hasher(algorithm)
        self._file: BinaryIO | None = None
        self._temporary: Path | None = None

    def __enter__(self) -> Self:
        with medium_errors(self._folder):
            ensure_folder(self._folder)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix="write-")
        self._file, self._temporary = os.fdopen(handle, "wb"), Path(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with medium_errors(self._folder):
            try:
                if self._file is not None:
                    self._file.close()
            finally:
                if self._temporary is not None:
                    self._temporary.unlink(missing_ok=True)
                self._file = self._temporary = None

    @property
    def size(self) -> int:
        """How many bytes were written so far."""
        return self._hasher.size

    def write(self, piece: bytes) -> int:
        """Add the next piece; return its length (so that a writer is a file for others)."""
        assert self._file is not None, "write within the context, before commit"
        with medium_errors(self._folder):
            self._file.write(piece)
        self._hasher.update(piece)
        return len(piece)

    def commit(self, expected: Digest | None = None) -> Digest:
        """Make the blob appear; return its digest.

        Raises `DigestMismatch` when *expected* is another, and nothing appears.
        """
        assert self._file is not None, "commit within the context, once"
        assert self._temporary is not None
        digest = self._hasher.digest()
        if expected is not None and digest != expected:
            raise DigestMismatch(expected=expected, actual=digest)
        with medium_errors(self._folder):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            publish(self._temporary, self._path_of(digest), self._clock())
        self._file = self._temporary = None
        return digest
