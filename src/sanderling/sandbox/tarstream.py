"""Reads a layer's tar from a stream, within bounds, in one pass.

Why not `tarfile.open`: it reads a header extension of any announced size into
memory, and follows what the archive says to do. Here only the 512-byte headers
are read by `tarfile.TarInfo.frombuf`; names, sizes and links come out as data,
and the unpacker decides.

Formats: ustar, PAX (path, linkpath, size, mtime), GNU long names. Sparse files
are refused: no layer needs them.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from sanderling.errors import Invalid

_BLOCK = 512
_MAX_EXTENSION_BYTES = 1024 * 1024
_PIECE = 1024 * 1024


class Kind(Enum):
    """What an entry makes."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    HARDLINK = "hard link"
    SPECIAL = "device or pipe"


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.CHRTYPE: Kind.SPECIAL,
    tarfile.BLKTYPE: Kind.SPECIAL,
    tarfile.FIFOTYPE: Kind.SPECIAL,
}


class Source(Protocol):
    """Where the tar's bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes; empty at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: raw name and link as the archive has them, not yet trusted."""

    name: str
    kind: Kind
    mode: int
    size: int
    link: str
    mtime: float


class TarStream:
    """Iterate over entries; call `content()` for a file before the next entry, or leave it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # bytes of the current entry's content
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries in order; raise `Invalid` for what is no tar."""
        pax: dict[str, str] = {}
        shared: dict[str, str] = {}
        long_name = long_link = ""
        while (info := self._header()) is not None:
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                pax = _pax_records(self._extension(info))
            elif info.type == tarfile.XGLTYPE:
                shared |= _pax_records(self._extension(info))
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = _text(self._extension(info))
            elif info.type == tarfile.GNUTYPE_LONGLINK:
                long_link = _text(self._extension(info))
            else:
                yield self._entry(info, shared | pax, long_name, long_link)
                self._skip()
                pax, long_name, long_link = {}, "", ""

    def content(self) -> Iterator[bytes]:
        """Yield the current file's content in pieces."""
        while self._left:
            piece = self._source.read(min(_PIECE, self._left))
            if not piece:
                raise Invalid("the layer ends inside a file")
            self._left -= len(piece)
            yield piece

    def _entry(self, info: tarfile.TarInfo, pax: dict[str, str], long_name: str, long_link: str) -> Entry:
        if any(key.startswith("GNU.sparse") for key in pax) or info.type not in _KINDS:
            raise Invalid(f"the layer's entry {info.name[:200]!r} is of a kind that images do not have")
        kind = _KINDS[info.type]
        try:
            size = int(pax.get("size", info.size))
            mtime = float(pax.get("mtime", info.mtime))
        except ValueError as e:
            raise Invalid("the layer has a size or a time that is no number") from e
        if size < 0 or not 0 <= mtime < 2**40:
            raise Invalid("the layer has a size or a time out of range")
        name = pax.get("path") or long_name or info.name
        if info.type == tarfile.AREGTYPE and name.endswith("/"):
            kind = Kind.FOLDER  # how tar said it before ustar
        self._expect(size if kind is Kind.FILE else 0)
        link = pax.get("linkpath") or long_link or info.linkname
        return Entry(name, kind, info.mode, size, link, mtime)

    def _expect(self, size: int) -> None:
        self._left, self._padding = size, -size % _BLOCK

    def _skip(self) -> None:
        for _ in self.content():
            pass
        self._exactly(self._padding)
        self._padding = 0

    def _extension(self, info: tarfile.TarInfo) -> bytes:
        if not 0 <= info.size <= _MAX_EXTENSION_BYTES:
            raise Invalid(f"the layer has a header extension of {info.size} bytes")
        data = self._exactly(info.size)
        self._exactly(-info.size % _BLOCK)
        return data

    def _header(self) -> tarfile.TarInfo | None:
        block = self._source.read(_BLOCK)
        while block and len(block) < _BLOCK:
            piece = self._source.read(_BLOCK - len(block))
            if not piece:
                raise Invalid("the layer ends inside a header")
            block += piece
        if not block or block.count(0) == _BLOCK:
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as e:
            raise Invalid(f"the layer is no tar archive: {e}") from e

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self._source.read(min(size, _PIECE))
            if not piece:
                raise Invalid("the layer is cut short")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax_records(raw: bytes) -> dict[str, str]:
    # pax(1), "Extended Header": "%d %s=%s\n", the length counts the whole record.
    records: dict[str, str] = {}
    at = 0
    while at < len(raw) and raw[at] != 0:
        space = raw.find(b" ", at, at + 20)
        length = int(raw[at:space]) if space > at and raw[at:space].isdigit() else 0
        record = raw[at : at + length]
        key, equals, value = record[space + 1 - at : -1].partition(b"=")
        if length < 5 or len(record) != length or not equals or record[-1:] != b"\n":
            raise Invalid("the layer has a broken PAX header")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at += length
    return records
