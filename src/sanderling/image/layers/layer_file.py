"""Write one layer: a tar archive that holds the same bytes for the same entries, compressed.

Sorted by path, parents first, mtime 0, numeric owners only, no device files.
The format is ustar; a pax header is written only for what ustar cannot hold.

Source: image-spec 1.1 "layer"; POSIX.1-2008 pax.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from isal import isal_zlib

from sanderling.blobs import BlobWriter, FileBlobs
from sanderling.errors import Invalid
from sanderling.image.layers.tree import Entry, Member, with_parents
from sanderling.oci import Digest, media_types

CODEC = "gzip-isal-2"  # part of every cache key: another codec is another blob
_LEVEL = 2
_GZIP_WINDOW = 31
CHUNK_BYTES = 1 << 20
_KINDS = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


class FileChanged(Invalid):
    """The file *name* changed while it was being read."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} changed while the image was being built; build again when it is at rest")
        self.name = name


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that is in the store: *digest* and *size_bytes* as compressed, *diff_id* of the plain tar."""

    digest: Digest
    diff_id: Digest
    size_bytes: int
    plain_bytes: int
    title: str
    media_type: str = media_types.OCI_LAYER_GZIP


class _Stream:
    """Compresses what it is given into a blob, and hashes both sides."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self._gzip = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
        self._plain = hashlib.sha256()
        self._pending = bytearray()
        self.plain_bytes = 0

    def write(self, piece: bytes) -> None:
        self._pending += piece
        self.plain_bytes += len(piece)
        # What the compressor writes depends on how it is fed: always the same lengths, whoever brings the bytes.
        while len(self._pending) >= CHUNK_BYTES:
            self._compress(bytes(self._pending[:CHUNK_BYTES]))
            del self._pending[:CHUNK_BYTES]

    def _compress(self, piece: bytes) -> None:
        self._plain.update(piece)
        self._writer.write(self._gzip.compress(piece))

    def finish(self) -> Digest:
        self._compress(bytes(self._pending))
        self._writer.write(self._gzip.flush())
        return Digest(f"sha256:{self._plain.hexdigest()}")


def write_layer(entries: Iterable[Entry], blobs: FileBlobs, title: str) -> Layer:
    """Write *entries* and the folders they are in as one layer into *blobs*.

    Raises FileChanged when a file's size is not what it was at its beginning.
    """
    with blobs.writer() as writer:
        stream = _Stream(writer)
        for entry in with_parents(entries):
            _write_entry(stream, entry)
        # POSIX: two blocks of zeros end an archive, which is a multiple of 10240 long.
        rest = -(stream.plain_bytes + 1024) % tarfile.RECORDSIZE
        stream.write(bytes(1024 + rest))
        diff_id = stream.finish()
        digest = writer.commit()
        return Layer(digest, diff_id, writer.size, stream.plain_bytes, title)


def _write_entry(stream: _Stream, entry: Entry) -> None:
    if entry.kind != "file":
        stream.write(_header(entry, 0))
        return
    match entry.content:
        case bytes() as content:
            size = len(content)
            stream.write(_header(entry, size))
            stream.write(content)
        case Member(size_bytes=size) as member:
            stream.write(_header(entry, size))
            with member.open() as file:
                _copy(stream, file, size, entry.path)
        case Path() as path:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                size = before.st_size
                stream.write(_header(entry, size))
                _copy(stream, file, size, path.name)
                if os.fstat(file.fileno()).st_mtime_ns != before.st_mtime_ns:
                    raise FileChanged(path.name)
    stream.write(bytes(-size % tarfile.BLOCKSIZE))


def _copy(stream: _Stream, file: IO[bytes], size: int, name: str) -> None:
    left = size
    while left:
        piece = file.read(min(CHUNK_BYTES, left))
        if not piece:
            raise FileChanged(name)
        stream.write(piece)
        left -= len(piece)
    if file.read(1):
        raise FileChanged(name)


def _header(entry: Entry, size: int) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.type = _KINDS[entry.kind]
    info.mode = 0o777 if entry.kind == "link" else entry.mode
    info.size = size
    info.uid, info.gid = entry.owner, entry.owner if entry.group is None else entry.group
    info.linkname = entry.target
    info.mtime = 0
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except (ValueError, UnicodeEncodeError):
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
