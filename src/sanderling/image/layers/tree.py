"""A tree of files that is to become a layer: entries by path, no two of one path.

Paths are relative to the root of the image, written with '/', without '.' and
'..'. Owners are numbers; times do not exist.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from sanderling.errors import Invalid

Kind = Literal["file", "folder", "link"]
MAX_PATH_BYTES = 4096
BYTECODE_FOLDER = "__pycache__"


class PathRefused(Invalid):
    """*path*, which *source* brings, cannot be in an image."""

    def __init__(self, source: str, path: str, reason: str) -> None:
        super().__init__(f"{source}: the path {path[:200]!r} {reason}")
        self.source, self.path, self.reason = source, path, reason


@dataclass(frozen=True, slots=True)
class Member:
    """The content of a file inside an archive: opened when it is wanted, never held whole."""

    open: Callable[[], IO[bytes]] = field(compare=False)
    size_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or symbolic link. *content* is the bytes, or where they are."""

    path: str
    kind: Kind
    mode: int
    content: bytes | Path | Member = b""
    target: str = ""
    owner: int = 0
    group: int | None = None  # that of the owner's number

    def fingerprint(self) -> str:
        """Tells apart two entries of one path whose content differs by accident (no protection against malice)."""
        match self.content:
            case bytes() as content:
                return f"{self.kind}:{len(content)}:{zlib.crc32(content):08x}:{self.target}"
            case Member(size_bytes=size, crc32=crc):
                return f"{self.kind}:{size}:{crc:08x}:{self.target}"
            case Path() as path:
                return f"{self.kind}:{path.stat().st_size}"


def safe_path(path: str, source: str) -> str:
    """Return *path* when it is inside the image and one way only to write it; else PathRefused."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        raise PathRefused(source, path, "leads outside of its folder")
    if any(part in ("", ".") for part in parts) or "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise PathRefused(source, path, "is not a plain relative path")
    try:
        length = len(path.encode())
    except UnicodeEncodeError as e:
        raise PathRefused(source, path, "is no text") from e
    if length > MAX_PATH_BYTES or any(len(part.encode()) > 255 for part in parts):
        raise PathRefused(source, path, "is too long")
    return path


def file_entry(
    path: str, content: bytes | Path | Member, *, executable: bool = False, source: str = "the image"
) -> Entry:
    """A file at *path*, readable by all, owned by root."""
    return Entry(safe_path(path, source), "file", 0o755 if executable else 0o644, content)


def with_parents(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield *entries* in `order_in_layer`, every folder before what is in it; missing folders are made (0755)."""
    by_path = {entry.path: entry for entry in entries}
    for path in list(by_path):
        parent = path.rpartition("/")[0]
        while parent and parent not in by_path:
            by_path[parent] = Entry(parent, "folder", 0o755)
            parent = parent.rpartition("/")[0]
    for path in sorted(by_path, key=lambda path: (order_in_layer(path), path)):
        yield by_path[path]


def order_in_layer(path: str) -> list[str]:
    """The key that paths are sorted by: as the folders are, but bytecode comes right behind its source.

    A source and its bytecode have names and documentation in common. Side by side they are within the 32 KiB that
    deflate looks back, which makes bytecode a third smaller.
    """
    parts = path.split("/")
    key: list[str] = []
    for part, below in zip(parts, [*parts[1:], ""], strict=True):
        if part != BYTECODE_FOLDER:
            key.append(part)
        elif not below:
            key.append("")  # the folder itself: before all that is in its parent
        else:
            key.append(f"{below.partition('.')[0]}.py" if below.endswith(".pyc") else part)
    return key
