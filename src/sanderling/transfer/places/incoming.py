"""A file on its way in: taken up where it was cut, verified, and named last.

    FOLDER/<algorithm>-<hex>    what has come so far; held by one writer with a lock

Two that write the same at once do not wait for each other: the second writes a
file of its own, which nobody takes up.
"""

import fcntl
import os
import tempfile
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sanderling.durable import sync_folder
from sanderling.errors import Unavailable
from sanderling.oci import Descriptor, DigestMismatch, Hasher
from sanderling.transfer.errors import LengthMismatch
from sanderling.transfer.files import to_its_end
from sanderling.transfer.places.port import OpenFrom, Told

_BATCH_BYTES = 1 << 20


class Incoming:
    """Writes one blob to *target*, by way of a file in *folder*."""

    def __init__(self, descriptor: Descriptor, folder: Path, target: Path) -> None:
        self._descriptor, self._folder, self._target = descriptor, folder, target
        self._hasher = Hasher(descriptor.digest.algorithm)

    async def receive(self, open_from: OpenFrom, told: Told) -> int:
        """Bring the blob in; return how many bytes came now.

        Raises DigestMismatch or LengthMismatch, and forgets what came; what a
        cut left is kept. Raises Unavailable when the disk does not take it.
        """
        try:
            return await self._receive(open_from, told)
        except OSError as e:
            raise Unavailable(f"{self._target} cannot be written: {e.strerror or e}") from e

    async def _receive(self, open_from: OpenFrom, told: Told) -> int:
        path, file = await to_its_end(self._open, lambda opened: opened[1].close())
        digest, size = self._descriptor.digest, self._descriptor.size
        with file:
            try:
                begins = self._hasher.size
                told(begins)
                await self._write(file, open_from, told)
                if self._hasher.size != size:
                    raise LengthMismatch(what=digest, expected=size, actual=self._hasher.size)
                if (actual := self._hasher.digest()) != digest:
                    raise DigestMismatch(expected=digest, actual=actual)
                await to_its_end(partial(self._name, path, file))
            except (DigestMismatch, LengthMismatch):
                path.unlink(missing_ok=True)
                raise
            except BaseException:
                if path.name.startswith("."):
                    path.unlink(missing_ok=True)  # nobody takes it up
                raise
        return size - begins

    async def _write(self, file: BinaryIO, open_from: OpenFrom, told: Told) -> None:
        size = self._descriptor.size
        if self._hasher.size >= size:
            return
        waiting = bytearray()

        def write(content: bytes) -> None:
            file.write(content)
            self._hasher.update(content)

        try:
            async with aclosing(open_from(self._hasher.size)) as pieces:
                async for piece in pieces:
                    if self._hasher.size + len(waiting) + len(piece) > size:
                        raise LengthMismatch(
                            what=self._descriptor.digest, expected=size, actual=self._hasher.size + len(waiting) + 1
                        )
                    waiting += piece
                    if len(waiting) >= _BATCH_BYTES:
                        batch = bytes(waiting)
                        waiting.clear()
                        await to_its_end(partial(write, batch))
                        told(self._hasher.size)
        finally:
            if waiting:  # what came before a cut is kept too
                write(bytes(waiting))
                told(self._hasher.size)

    def _open(self) -> tuple[Path, BinaryIO]:
        digest = self._descriptor.digest
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{digest.algorithm}-{digest.hex}"
        file = self._locked(path)
        if file is None:
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=f".{digest.hex[:12]}-")
            return Path(name), os.fdopen(handle, "w+b", buffering=0)
        while piece := file.read(_BATCH_BYTES):
            self._hasher.update(piece)
        if self._hasher.size > self._descriptor.size:
            file.seek(0)
            file.truncate()
            self._hasher = Hasher(digest.algorithm)
        return path, file

    def _locked(self, path: Path) -> BinaryIO | None:
        """Open the file that is taken up; None when another writer has it."""
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another writer may have finished, and moved it away, between the two.
            if os.fstat(file.fileno()).st_nlink:
                return file
        except BlockingIOError:
            pass
        file.close()
        return None

    def _name(self, path: Path, file: BinaryIO) -> None:
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
        self._target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(self._target)
        sync_folder(self._target.parent)
