"""The door through which a blob that was uploaded becomes visible: beside the garbage collection, within the quota.

The order of the steps, and why it is safe, is in `space.removals`.
"""

import asyncio
import time
from collections.abc import Callable

from sanderling.blobs import BlobInfo, BlobStore
from sanderling.errors import Unavailable
from sanderling.oci import Digest
from sanderling.registry.content.content import Content
from sanderling.registry.errors import BlobBeingRemoved
from sanderling.registry.space.allowance import Allowance
from sanderling.registry.space.removals import GRACE_S, Removal

WAIT_S = 10.0
_POLL_S = 0.1


class BlobLinks:
    """Commits uploads and links them."""

    def __init__(
        self,
        content: Content,
        blobs: BlobStore,
        clock: Callable[[], float] = time.time,
        grace_s: float = GRACE_S,
    ) -> None:
        self._content, self._blobs, self._clock, self._grace_s = content, blobs, clock, grace_s

    async def commit(self, repository: str, upload_id: str, digest: Digest) -> BlobInfo:
        """Make the upload the blob *digest*, visible in *repository*, and forget the upload.

        Raises `QuotaExceeded` and `DigestMismatch`: the upload stays, for the
        caller to abort. `Unavailable` when the bytes went as garbage meanwhile.
        """
        size = await self._blobs.upload_offset(upload_id)
        await asyncio.to_thread(self._content.check_room, repository, size, digest)
        began = self._clock()
        blob = await self._blobs.commit(upload_id, digest)
        known: Removal | None = None
        while True:
            # `space.removals`: "U2 comes later than half the grace time after U1".
            if self._clock() - began > self._grace_s / 2:
                raise Unavailable(f"blob {digest} took too long to be linked; send it again")
            try:
                await asyncio.to_thread(self._content.end_upload, upload_id, (repository, blob), known)
            except BlobBeingRemoved as e:
                known = await self._look(e, began)
            else:
                return blob

    async def _look(self, refused: BlobBeingRemoved, began: float) -> Removal | None:
        """Wait until the removal has ended; return it when the bytes are there all the same, else raise."""
        removal = refused.removal
        if removal.is_going_on(self._clock()):
            if self._clock() - began > WAIT_S:
                raise refused
            await asyncio.sleep(_POLL_S)
            return None
        if await self._blobs.stat(removal.digest) is None:
            raise refused
        return removal

    async def find_allowance(
        self, repository: str, start: int, length: int | None, digest: str = ""
    ) -> Allowance | None:
        """Return how much an upload that has *start* bytes may take; None where there is no quota.

        Raises `QuotaExceeded` when *length*, the promised number of bytes, has no room.
        """
        room = await asyncio.to_thread(self._content.find_room, repository, digest)
        if room is None:
            return None
        allowance = Allowance(repository, room, start)
        allowance.check(length or 0)
        return allowance
