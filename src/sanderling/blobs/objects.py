"""Blobs in a bucket of an S3-compatible object store.

    PREFIX/sha256/ab/ab12...   a blob, under its digest, whole and verified
    PREFIX/sha512/...
    PREFIX/uploads/            resumable uploads: see `object_uploads`
    PREFIX/removing/           removals that are under way: see `object_removals`
    PREFIX/trial/              what a start tries the bucket out with, for a moment

Any number of servers may use one bucket at once: nothing that was acknowledged is on the disk of one of them. What
obstore leaves of a put that was cut off (parts of a multipart upload, never visible) goes by the bucket's own rule for
incomplete uploads.
"""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

from sanderling.blobs.bucket import Bucket
from sanderling.blobs.object_removals import Removals
from sanderling.blobs.object_uploads import ObjectUploads
from sanderling.blobs.port import BlobInfo, BlobNotFound, StoredBlob
from sanderling.errors import Invalid
from sanderling.oci import Digest


class ObjectBlobs:
    """The port `BlobStore` over a bucket; `sanderling.blobs.open_store` makes it."""

    def __init__(self, bucket: Bucket, temporary: Path | None = None) -> None:
        self._bucket = bucket
        self._removals = Removals(bucket)
        self._uploads = ObjectUploads(bucket, self._removals, temporary)

    async def stat(self, digest: Digest) -> BlobInfo | None:
        """See `BlobStore.stat`."""
        info = await self._bucket.find(_key(digest))
        return None if info is None else BlobInfo(digest, info.size)

    async def open(self, digest: Digest, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore.open`."""
        try:
            async with aclosing(self._bucket.stream(_key(digest), start, end)) as pieces:
                async for piece in pieces:
                    yield piece
        except FileNotFoundError:
            raise BlobNotFound(digest) from None

    async def begin_upload(self) -> str:
        """See `BlobStore.begin_upload`."""
        return await self._uploads.begin()

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore.append`."""
        return await self._uploads.append(upload_id, offset, chunks)

    async def upload_offset(self, upload_id: str) -> int:
        """See `BlobStore.upload_offset`."""
        return await self._uploads.offset(upload_id)

    async def commit(self, upload_id: str, digest: Digest) -> BlobInfo:
        """See `BlobStore.commit`."""
        return BlobInfo(digest, await self._uploads.commit(upload_id, digest, _key(digest)))

    async def abort(self, upload_id: str) -> None:
        """See `BlobStore.abort`."""
        await self._uploads.abort(upload_id)

    async def remove(self, digest: Digest) -> None:
        """See `BlobStore.remove`."""
        await self._bucket.delete([_key(digest)])

    async def stored(self) -> AsyncIterator[StoredBlob]:
        """See `BlobStore.stored`."""
        for algorithm in ("sha256", "sha512"):
            async for info in self._bucket.list(algorithm):
                with suppress(Invalid):  # what others put there is not ours
                    digest = Digest.parse(f"{algorithm}:{info.key.rpartition('/')[2]}")
                    yield StoredBlob(digest, info.size, info.modified_at)

    async def remove_if_older(self, digest: Digest, before: float) -> bool:
        """See `BlobStore.remove_if_older`. Here look and removal are one step against every server's `commit`."""
        return await self._removals.remove_if_older(_key(digest), before)

    async def end_stale_uploads(self, before: float) -> int:
        """See `BlobStore.end_stale_uploads`."""
        return await self._uploads.remove_stale(before) + await self._removals.remove_stale(before)


def _key(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"
