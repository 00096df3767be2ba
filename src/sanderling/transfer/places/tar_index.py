"""Find the files in a tar without unpacking it: their names, and where they begin.

Nothing is ever written by what a tar says: names are keys to look up, and links
are followed among them alone. Bounded: entries, the length of a name, the size
of an extended header. Names that go up or begin at the root are left out; the
last of two of one name counts, as with tar itself.

Sources: POSIX pax (IEEE 1003.1), and GNU tar's long names and base-256 numbers.
"""

import os
import posixpath
from dataclasses import dataclass
from typing import BinaryIO

from sanderling.errors import Invalid

BLOCK = 512
MAX_ENTRIES = 200_000
_MAX_HEADER_BYTES = 1 << 20
_MAX_NAME = 4096
_MAX_LINKS = 8
_FILE, _HARD_LINK, _SYMBOLIC_LINK = (b"0", b"\0", b"7"), b"1", b"2"


@dataclass(frozen=True, slots=True)
class TarFile:
    """A regular file in the tar: *offset* and *size* of its content, in bytes."""

    offset: int
    size: int


class TarIndex:
    """The files of one uncompressed tar."""

    def __init__(self, file: BinaryIO, what: str) -> None:
        """Read all headers. Raises `Invalid` for what is no tar, or is cut off."""
        self._what = what
        self._files: dict[str, TarFile] = {}
        self._links: dict[str, str] = {}
        self._end = os.fstat(file.fileno()).st_size
        self._scan(file)

    def find(self, name: str) -> TarFile | None:
        """Return the file *name*, by way of links within the tar."""
        name = _normal(name) or ""
        for _ in range(_MAX_LINKS):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return None
            name = self._links[name]
        return None

    def names(self) -> list[str]:
        """Return the names of the regular files."""
        return list(self._files)

    def _scan(self, file: BinaryIO) -> None:
        position, entries, zeros = 0, 0, 0
        extended: dict[str, str] = {}
        while position + BLOCK <= self._end and zeros < 2:
            file.seek(position)
            block = file.read(BLOCK)
            position += BLOCK
            if not block.strip(b"\0"):
                zeros += 1
                continue
            zeros = 0
            entries += 1
            if entries > MAX_ENTRIES:
                raise Invalid(f"{self._what} has more than {MAX_ENTRIES} entries")
            self._check(block)
            kind = block[156:157]
            size = self._size(extended.get("size"), block)
            if position + size > self._end:
                raise Invalid(f"{self._what} is cut off: it ends in the middle of an entry")
            if kind in (b"x", b"g", b"L", b"K"):
                extended |= self._header(kind, file, size)
            else:
                self._add(kind, block, extended, TarFile(position, size))
                extended = {}
            position += -(-size // BLOCK) * BLOCK
        if entries == 0:
            raise Invalid(f"{self._what} is no tar file, or an empty one")

    def _check(self, block: bytes) -> None:
        try:
            told = int(block[148:156].strip(b" \0") or b"0", 8)
        except ValueError:
            told = -1
        if told != sum(block[:148]) + sum(block[156:]) + 8 * 32:
            raise Invalid(f"{self._what} is no tar file, or a damaged one: the sum of a header is wrong")

    def _size(self, told: str | None, block: bytes) -> int:
        raw = block[124:136]
        try:
            if told is not None and block[156:157] not in (b"x", b"g", b"L", b"K"):
                size = int(told) if told.isascii() and told.isdigit() and len(told) < 20 else -1
            elif raw[0] == 0x80:  # GNU: a number of 11 bytes
                size = int.from_bytes(raw[1:], "big")
            else:
                size = int(raw.strip(b" \0") or b"0", 8)
        except ValueError:
            size = -1
        if size < 0:
            raise Invalid(f"{self._what} is damaged: the size of an entry cannot be read")
        # Links and folders have no content, whatever their header says.
        return size if block[156:157] not in (_HARD_LINK, _SYMBOLIC_LINK, b"3", b"4", b"5", b"6") else 0

    def _header(self, kind: bytes, file: BinaryIO, size: int) -> dict[str, str]:
        if size > _MAX_HEADER_BYTES:
            raise Invalid(f"{self._what}: the header of an entry has {size} bytes; {_MAX_HEADER_BYTES} is the limit")
        content = file.read(size)
        if kind == b"g":
            return {}
        if kind in (b"L", b"K"):
            text = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            return {"path" if kind == b"L" else "linkpath": text}
        return self._pax(content)

    def _pax(self, content: bytes) -> dict[str, str]:
        found: dict[str, str] = {}
        position = 0
        while position < len(content) and content[position] != 0:
            space = content.find(b" ", position, position + 12)
            digits = content[position:space] if space > 0 else b""
            if not digits.isdigit() or not int(digits) > len(digits) + 1:
                raise Invalid(f"{self._what}: the extended header of an entry cannot be read")
            end = position + int(digits)
            key, _, value = content[space + 1 : end - 1].partition(b"=")
            found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
            position = end
        if any(key.startswith("GNU.sparse") for key in found):
            raise Invalid(f"{self._what} has a sparse file, which no image has")
        return {key: value for key, value in found.items() if key in ("path", "linkpath", "size")}

    def _add(self, kind: bytes, block: bytes, extended: dict[str, str], content: TarFile) -> None:
        prefix = _text(block[345:500]) if block[257:262] == b"ustar" and block[257:265] != b"ustar  \0" else ""
        name = _normal(extended.get("path") or "/".join(part for part in (prefix, _text(block[:100])) if part))
        if name is None:
            return
        self._files.pop(name, None)
        self._links.pop(name, None)
        if kind in _FILE:
            self._files[name] = content
        elif kind in (_HARD_LINK, _SYMBOLIC_LINK):
            target = extended.get("linkpath") or _text(block[157:257])
            if kind == _SYMBOLIC_LINK:
                target = posixpath.join(posixpath.dirname(name), target)
            resolved = _normal(posixpath.normpath(target)) if not target.startswith("/") else None
            if resolved is not None:
                self._links[name] = resolved


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _normal(name: str) -> str | None:
    """Return the name as a key; None for one that is outside, or too long."""
    if len(name) > _MAX_NAME or name.startswith("/"):
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts or not parts else "/".join(parts)
