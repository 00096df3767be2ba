"""Write one layer: a tar archive that holds the same bytes for the same entries, compressed.

Parents first, bytecode beside its source, mtime 0, numeric owners only, no device
files. The format is ustar; a pax header is written only for what ustar cannot hold.

Source: image-spec 1.1 "layer"; POSIX.1-2008 pax.
"""

import hashlib
import os
import tarfile
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sanderling.blobs import BlobWriter, FileBlobs
from sanderling.errors import Invalid
from sanderling.image.layers.codec import Codec
from sanderling.image.layers.codec import codec as codec_of
from sanderling.image.layers.tree import Entry, Member, with_parents
from sanderling.oci import Digest, media_types

CHUNK_BYTES = 1 << 20
_AHEAD = 4  # blocks of one layer that are being compressed at once: bounds memory
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
    packages: str = ""  # see `sanderling.image.layers.sizes`


class _Stream:
    """Compresses what it is given into a blob, block by block on *threads*, and hashes both sides."""

    def __init__(self, writer: BlobWriter, codec: Codec, threads: Executor | None) -> None:
        self._writer, self._codec, self._threads = writer, codec, threads
        self._plain = hashlib.sha256()
        self._block = bytearray()
        self._under_way: deque[Future[bytes]] = deque()
        self.plain_bytes = 0

    def write(self, piece: bytes) -> None:
        self.plain_bytes += len(piece)
        # What a compressor writes depends on how it is fed: always the same lengths, whoever brings the bytes.
        rest = memoryview(piece)
        while rest:
            room = self._codec.block_bytes - len(self._block)
            self._block += rest[:room]
            rest = rest[room:]
            if len(self._block) == self._codec.block_bytes:
                self._end_block()

    def _end_block(self) -> None:
        block = bytes(self._block)
        self._block.clear()
        if self._threads is not None:
            self._under_way.append(self._threads.submit(self._codec.compress, block))
        else:
            self._writer.write(self._codec.compress(block))
        self._plain.update(block)
        if len(self._under_way) > _AHEAD:
            self._writer.write(self._under_way.popleft().result())

    def finish(self) -> Digest:
        if self._block:
            self._end_block()
        for block in self._under_way:
            self._writer.write(block.result())
        return Digest(f"sha256:{self._plain.hexdigest()}")


def write_layer(
    entries: Iterable[Entry],
    blobs: FileBlobs,
    title: str,
    codec: Codec | None = None,
    threads: Executor | None = None,
) -> Layer:
    """Write *entries* and the folders they are in as one layer into *blobs*.

    *codec* is gzip's when it is not given. Blocks are compressed on *threads*, or one after the other.
    Raises FileChanged when a file's size is not what it was at its beginning.
    """
    codec = codec or codec_of("gzip")
    with blobs.writer() as writer:
        stream = _Stream(writer, codec, threads)
        for entry in with_parents(entries):
            _write_entry(stream, entry)
        # POSIX: two blocks of zeros end an archive, which is a multiple of 10240 long.
        rest = -(stream.plain_bytes + 1024) % tarfile.RECORDSIZE
        stream.write(bytes(1024 + rest))
        diff_id = stream.finish()
        digest = writer.commit()
        return Layer(digest, diff_id, writer.size, stream.plain_bytes, title, codec.media_type)


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
