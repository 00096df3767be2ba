"""ADD of a tar archive: what is in it, as entries. Plain, or packed with gzip, bzip2 or xz.

A packed one is unpacked into one temporary file, for a layer is written by path. Owners
and modes are those of the archive; --chown sets the owner.
"""

import bz2
import gzip
import lzma
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import IO, Any, cast

from sanderling.errors import Invalid
from sanderling.image.layers.tree import MAX_PATH_BYTES, Entry, Member, PathRefused

MAX_MEMBERS = 500_000
MAX_PLAIN_BYTES = 64 << 30
_PACKED: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", partial(gzip.open, mode="rb")),
    (b"BZh", partial(bz2.open, mode="rb")),
    (b"\xfd7zXZ\x00", partial(lzma.open, mode="rb")),
)
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, KeyError)


def archive_entries(content: Entry, target: str, owner: tuple[int, int] | None, held: ExitStack) -> list[Entry] | None:
    """The entries of the archive *content* below *target*; None when it is no archive.

    They can be read until *held* is closed. Raises Invalid.
    """
    if not isinstance(content.content, Member):
        return None
    file = held.enter_context(content.content.open())
    start = file.read(6)
    file.seek(0)
    opened = next((opened for mark, opened in _PACKED if start.startswith(mark)), None)
    if opened is not None:
        plain = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - held closes it
        try:
            with opened(file) as stream:
                _unpack(stream, plain, content.path)
        except _BROKEN as e:
            raise Invalid(f"{content.path} cannot be unpacked: {e}") from e
        plain.seek(0)
        file = plain
    try:
        archive = held.enter_context(tarfile.open(fileobj=file, mode="r:"))  # noqa: SIM115 - held closes it
    except _BROKEN:
        return None  # packed or not, it is a file like others
    try:
        return list(_entries(archive, content.path, target, owner))
    except _BROKEN as e:
        raise Invalid(f"the archive {content.path} is broken: {e}") from e


def _unpack(stream: IO[bytes], plain: IO[bytes], name: str) -> None:
    while piece := stream.read(1 << 20):
        plain.write(piece)
        if plain.tell() > MAX_PLAIN_BYTES:
            raise Invalid(f"{name} unpacks to more than {MAX_PLAIN_BYTES >> 30} GiB")


def inside(path: str, source: str) -> str:
    """*path* of a tar archive as a plain path. What only Unix allows in a name is allowed. Raises PathRefused."""
    if ".." in path.split("/"):
        raise PathRefused(source, path, "leads outside of its folder")
    if "\0" in path or len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise PathRefused(source, path, "is no path")
    return posixpath.normpath(path.lstrip("/") or ".").lstrip("/")


def _entries(archive: tarfile.TarFile, name: str, target: str, owner: tuple[int, int] | None) -> Iterator[Entry]:
    for count, info in enumerate(archive):
        if count > MAX_MEMBERS:
            raise Invalid(f"{name} holds more than {MAX_MEMBERS} files")
        path = inside(info.name, name)
        if path == ".":
            continue
        place = f"{target}/{path}" if target else path
        uid, gid = owner or (info.uid, info.gid)
        mode = info.mode & 0o7777
        if info.isdir():
            yield Entry(place, "folder", mode, owner=uid, group=gid)
        elif info.issym():
            yield Entry(place, "link", 0o777, target=info.linkname, owner=uid, group=gid)
        elif info.isreg() or info.islnk():
            real = info if info.isreg() else archive.getmember(info.linkname)
            if not real.isreg():
                raise Invalid(f"{name}: {info.name} is a hard link to what is no file")
            yield Entry(place, "file", mode, _member(archive, real), owner=uid, group=gid)
        else:
            raise Invalid(f"{name}: {info.name} is a device or a pipe, which an image cannot have")


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    return Member(lambda: cast(IO[bytes], archive.extractfile(info)), info.size, info.chksum)
