"""An OCI layout in a tar file as a place.

It is read where it is. It is written into a folder beside it, `.FILE.partial`,
which a later run takes up; `finish` makes the tar of it, whole or not at all, and
replaces the file. The same images give the same tar.
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

from sanderling.errors import NotFound
from sanderling.oci import Descriptor, Digest, Index
from sanderling.transfer.files import to_its_end
from sanderling.transfer.places.layout import LayoutPlace, check_marker, find_named, names_of, referrers_in
from sanderling.transfer.places.port import OpenFrom, Told
from sanderling.transfer.places.tar_content import LazyTar, TarContent
from sanderling.transfer.places.tar_write import write_tar


class OciArchivePlace:
    """One tar file, read or written."""

    only_platform = False

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, f"oci-archive:{path}"
        self._tar = LazyTar(path)
        self._staged = staging_of(path, self.name)
        self._mine: set[Digest] = set()
        self._has_begun = False

    async def resolve(self, reference: str) -> Descriptor:
        """Return the manifest of this name or digest."""
        return find_named(await self._index(), reference, self.name)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the manifest, verified."""
        raw = await asyncio.to_thread(_read_blob, await self._tar.get(), descriptor.digest)
        descriptor.digest.verify(raw)
        return raw

    async def open_blob(self, descriptor: Descriptor, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the blob from the tar."""
        content = await self._tar.get()
        entry = content.find(_blob_name(descriptor.digest))
        if entry is None:
            raise NotFound(f"{self.name} lacks the content {descriptor.digest}")
        async for piece in content.stream(entry, start):
            yield piece

    async def tags(self) -> list[str]:
        """Return the names in the index."""
        return names_of(await self._index())

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """Look through the manifests of the index."""
        content, index = await self._tar.get(), await self._index()
        return await asyncio.to_thread(referrers_in, index, digest, lambda one: _read_blob(content, one.digest))

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether it is in the folder beside the archive: the archive itself is replaced."""
        self._mine.add(descriptor.digest)
        return await self._staged.has_blob(descriptor)

    async def push_blob(self, descriptor: Descriptor, open_from: OpenFrom, mount_from: str | None, told: Told) -> int:
        """Bring the blob into the folder beside the archive."""
        self._mine.add(descriptor.digest)
        return await self._staged.push_blob(descriptor, open_from, mount_from, told)

    async def push_manifest(self, descriptor: Descriptor, raw: bytes, tag: str | None = None) -> None:
        """Keep the manifest in the folder beside the archive."""
        if not self._has_begun:
            # What an earlier run had named is not ours; its blobs are taken up where we need them.
            self._has_begun = True
            (self._staged.folder / "index.json").unlink(missing_ok=True)
        self._mine.add(descriptor.digest)
        await self._staged.push_manifest(descriptor, raw, tag)

    async def finish(self) -> dict[str, Digest]:
        """Make the tar, and remove the folder."""
        await to_its_end(self._pack)
        return {}

    async def aclose(self) -> None:
        """Let go of the tar; the folder stays, for a later run to take up."""
        self._tar.close()

    async def _index(self) -> Index:
        content = await self._tar.get()

        def read() -> Index:
            check_marker(content.read("oci-layout", "the file oci-layout: it is no OCI archive"), self.name)
            return Index.parse(content.read("index.json", "the file index.json"))

        return await asyncio.to_thread(read)

    def _pack(self) -> None:
        folder = self._staged.folder
        names = ["oci-layout", "index.json"]
        names += sorted(_blob_name(digest) for digest in self._mine)
        write_tar(self.path, [(name, folder / name) for name in names])
        shutil.rmtree(folder, ignore_errors=True)


def staging_of(path: Path, name: str) -> LayoutPlace:
    """Return the layout in which the archive *path* is gathered."""
    return LayoutPlace(path.with_name(f".{path.name}.partial"), name)


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _read_blob(content: TarContent, digest: Digest) -> bytes:
    return content.read(_blob_name(digest), f"the manifest {digest}")
