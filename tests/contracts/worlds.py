"""Every store of blobs, each as a world in which servers come and go."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import obstore
from obstore.store import MemoryStore
from tests.s3 import S3Server

from sanderling.blobs import BlobStore, StorePlace, open_store
from sanderling.blobs.bucket import Bucket
from sanderling.blobs.objects import ObjectBlobs
from sanderling.oci import Digest


class World(Protocol):
    """A medium, and what a test must do behind the back of the stores over it."""

    def open(self) -> BlobStore:
        """Return a store over the medium, as a server gets it at its start."""

    def contents(self) -> list[str]:
        """Return the names of all that is there."""

    def damage(self, upload_id: str) -> None:
        """Cut the last byte off what an upload has."""

    @property
    def excludes_servers(self) -> bool:
        """Say whether an upload that one server writes to is busy for every other one too."""


class Files:
    """A folder."""

    excludes_servers = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> BlobStore:
        return open_store(StorePlace(str(self._folder)))

    def contents(self) -> list[str]:
        return [path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file()]

    def damage(self, upload_id: str) -> None:
        file = self._folder / "uploads" / upload_id
        file.write_bytes(file.read_bytes()[:-1])


class S3:
    """A bucket of a true S3 server, which does not know create-only puts."""

    excludes_servers = False

    def __init__(self, server: S3Server, prefix: str) -> None:
        self._server, self._prefix = server, prefix
        self._store = server.connect(prefix)

    def open(self) -> BlobStore:
        return self._server.open(self._prefix)

    def contents(self) -> list[str]:
        return [meta["path"] for meta in obstore.list(self._store).collect()]

    def damage(self, upload_id: str) -> None:
        _damage(self._store, upload_id)


class Memory:
    """The rules of the bucket over a store that knows create-only puts, as Amazon's does."""

    excludes_servers = False

    def __init__(self) -> None:
        self._store = MemoryStore()

    def open(self) -> BlobStore:
        return ObjectBlobs(Bucket(self._store, "s3://memory", has_create_only=True))

    def contents(self) -> list[str]:
        return [meta["path"] for meta in obstore.list(self._store).collect()]

    def damage(self, upload_id: str) -> None:
        _damage(self._store, upload_id)


def _damage(store: obstore.store.ObjectStore, upload_id: str) -> None:
    names = [meta["path"] for meta in obstore.list(store, f"uploads/{upload_id}").collect()]
    last = max(name for name in names if "/piece-" in name)
    obstore.put(store, last, bytes(obstore.get(store, last).bytes())[:-1])


async def pieces(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    """Yield *content* as it comes from a network."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def keep(store: BlobStore, content: bytes, algorithm: str = "sha256") -> Digest:
    """Put a blob as a server does."""
    digest = Digest.of(content, algorithm)
    upload_id = await store.begin_upload()
    await store.append(upload_id, 0, pieces(content))
    await store.commit(upload_id, digest)
    return digest
