"""The content of a tar file, compressed with gzip or not: looked up by name, read from any byte."""

import asyncio
import gzip
import tempfile
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO, BinaryIO

from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.oci import MAX_DOCUMENT_BYTES
from sanderling.transfer.files import read_file
from sanderling.transfer.places.tar_index import TarFile, TarIndex

MAX_UNPACKED_BYTES = 256 * 1024**3
# What deflate can do at most is 1,032 to 1; content of images comes nowhere near this over a long stretch.
_MAX_RATIO, _RATIO_FROM_BYTES = 200, 256 * 1024**2
_COPY_BYTES = 1 << 20
_ZSTD, _GZIP, _XZ, _BZIP2 = b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh"


class TarContent:
    """Read-only; open it with `open`, close it with `close`."""

    def __init__(self, path: Path, plain: Path, index: TarIndex, unpacked: IO[bytes] | None) -> None:
        self._path, self._plain, self._index, self._unpacked = path, plain, index, unpacked

    @classmethod
    def open(cls, path: Path) -> "TarContent":
        """Read the headers of the tar at *path*; a compressed one is unpacked into a temporary file first.

        Raises NotFound, `Invalid` for what is no tar, and Unavailable. Blocks.
        """
        unpacked: IO[bytes] | None = None
        try:
            if not path.is_file():
                raise NotFound(f"{path} is not there, or is no file")
            with path.open("rb") as file:
                kind = compression_of(file.read(6))
                file.seek(0)
                if kind is None:
                    return cls(path, path, TarIndex(file, str(path)), None)
                if kind != "gzip":
                    raise Invalid(f"{path} is compressed with {kind}, which is not known here; unpack it first")
                unpacked = tempfile.NamedTemporaryFile(prefix="sanderling-", suffix=".tar")  # noqa: SIM115 - see close
                unpack_gzip(file, unpacked, str(path))
                unpacked.flush()
                index = TarIndex(unpacked, str(path))  # type: ignore[arg-type]
                return cls(path, Path(unpacked.name), index, unpacked)
        except OSError as e:
            _close(unpacked)
            raise Unavailable(f"{path} cannot be read: {e.strerror or e}") from e
        except BaseException:
            _close(unpacked)
            raise

    def close(self) -> None:
        """Remove what was unpacked."""
        _close(self._unpacked)

    def find(self, name: str) -> TarFile | None:
        """Return where the file *name* is."""
        return self._index.find(name)

    def read(self, name: str, what: str) -> bytes:
        """Return a small file. Raises NotFound, and `Invalid` past 4 MiB."""
        found = self.find(name)
        if found is None:
            raise NotFound(f"{self._path} lacks {what}")
        if found.size > MAX_DOCUMENT_BYTES:
            raise Invalid(f"{self._path}: {what} has {found.size} bytes; {MAX_DOCUMENT_BYTES} is the limit")
        return self.piece(found, found.size)

    def piece(self, entry: TarFile, size: int) -> bytes:
        """Return the first *size* bytes of a file."""
        try:
            with self._plain.open("rb") as file:
                file.seek(entry.offset)
                return file.read(min(size, entry.size))
        except OSError as e:
            raise Unavailable(f"{self._path} cannot be read: {e.strerror or e}") from e

    def stream(self, entry: TarFile, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a file from byte *start*."""
        return read_file(self._plain, entry.offset + start, max(0, entry.size - start))


class LazyTar:
    """A tar that is opened when it is first asked for, once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = asyncio.Lock()
        self._content: TarContent | None = None

    async def get(self) -> TarContent:
        """Return its content. Raises as `TarContent.open` does."""
        async with self._lock:
            if self._content is None:
                self._content = await asyncio.to_thread(TarContent.open, self.path)
            return self._content

    def close(self) -> None:
        """Let go."""
        if self._content is not None:
            self._content.close()


def compression_of(start: bytes) -> str | None:
    """Return how content that begins so is compressed: gzip, zstd, xz, bzip2, or None."""
    for magic, name in ((_GZIP, "gzip"), (_ZSTD, "zstd"), (_XZ, "xz"), (_BZIP2, "bzip2")):
        if start.startswith(magic):
            return name
    return None


def unpack_gzip(source: BinaryIO, target: IO[bytes], what: str) -> int:
    """Unpack *source* into *target*; return how many bytes that are. Raises `Invalid` for a damaged one, or a bomb."""
    written = 0
    try:
        with gzip.GzipFile(fileobj=source) as plain:
            while piece := plain.read(_COPY_BYTES):
                written += len(piece)
                if written > MAX_UNPACKED_BYTES or (
                    written > _RATIO_FROM_BYTES and written > _MAX_RATIO * max(1, source.tell())
                ):
                    raise Invalid(f"{what} unpacks to far more than it is ({written} bytes and more): refused")
                target.write(piece)
    except (gzip.BadGzipFile, zlib.error, EOFError) as e:
        raise Invalid(f"{what} is a damaged gzip file: {e}") from e
    return written


def _close(file: IO[bytes] | None) -> None:
    if file is not None:
        file.close()
