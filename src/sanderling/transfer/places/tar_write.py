"""Write a tar that depends on its content alone: no times, no users, in a given order."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from sanderling.durable import sync_folder
from sanderling.errors import Unavailable

_COPY_BYTES = 1 << 20


def write_tar(target: Path, entries: Iterable[tuple[str, Path | bytes]]) -> None:
    """Replace *target* with a tar of *entries* (name, and file or content); whole and on the disk, or not at all."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            folders: set[str] = set()
            for path, content in entries:
                for folder in _folders_of(path):
                    if folder not in folders:
                        folders.add(folder)
                        file.write(_header(f"{folder}/", 0, tarfile.DIRTYPE))
                size = len(content) if isinstance(content, bytes) else content.stat().st_size
                file.write(_header(path, size, tarfile.REGTYPE))
                _write_content(file, content, size)
            file.write(bytes(2 * tarfile.BLOCKSIZE))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(target)
    except OSError as e:
        raise Unavailable(f"{target} cannot be written: {e.strerror or e}") from e
    finally:
        Path(name).unlink(missing_ok=True)
    sync_folder(target.parent)


def _write_content(file: BinaryIO, content: Path | bytes, size: int) -> None:
    if isinstance(content, bytes):
        file.write(content)
    else:
        before = file.tell()
        with content.open("rb") as source:
            shutil.copyfileobj(source, file, _COPY_BYTES)
        if file.tell() - before != size:
            raise Unavailable(f"{content} changed while it was written into an archive")
    file.write(bytes(-size % tarfile.BLOCKSIZE))


def _folders_of(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _header(name: str, size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)
