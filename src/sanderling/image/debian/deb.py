"""Read a Debian binary package: an ar archive whose ``data.tar.*`` is the files.

Source: deb(5). No program runs: maintainer scripts are not even read.
"""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sanderling.errors import Invalid

_MAGIC = b"!<arch>\n"


class BrokenPackage(Invalid):
    """The file is no Debian package that we can read."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file} is no Debian package that can be read: {reason}")
        self.file, self.reason = file, reason


@contextmanager
def open_data(path: Path) -> Iterator[tarfile.TarFile]:
    """Open the tar archive of files inside the package at *path*.

    Raises BrokenPackage when it is no package, or its compression is not gzip, xz or none.
    """
    with path.open("rb") as file:
        name = _seek_to_data(file, path.name)
        if name not in ("data.tar", "data.tar.gz", "data.tar.xz"):
            raise BrokenPackage(path.name, f"the compression of {name} is not supported")
        try:
            mode = {"data.tar": "r|", "data.tar.gz": "r|gz", "data.tar.xz": "r|xz"}[name]
            with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]  # modes of a dict
                yield tar
        except (tarfile.TarError, EOFError, OSError) as e:
            raise BrokenPackage(path.name, str(e)) from e


def _seek_to_data(file: BinaryIO, name: str) -> str:
    """Move *file* to the content of the data member and return that member's name."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise BrokenPackage(name, "it is no ar archive")
    while header := file.read(60):
        if len(header) < 60 or header[58:60] != b"`\n":
            raise BrokenPackage(name, "a member's header is cut or wrong")
        member = header[:16].decode("ascii", "replace").strip().rstrip("/")
        if member.startswith("data.tar"):
            return member
        try:
            size = int(header[48:58])
        except ValueError as e:
            raise BrokenPackage(name, "a member's size is no number") from e
        file.seek(size + size % 2, 1)
    raise BrokenPackage(name, "it has no data")
