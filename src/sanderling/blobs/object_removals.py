"""Removing old blobs beside commits of the same blobs by any server, in a store that cannot delete on a condition.

    removing/<the blob's key>/<nonce>     somebody looks at this blob's age, and may remove it

- Who removes: put a mark; look at the blob's time; remove it when it is old; take the mark away.
- Who commits: put the blob; look for marks. None: every later mark's look sees the new time, and the blob stays.
  One: it may have looked before; wait until it is gone, look whether the blob is still there, else put it again.
- A killed remover leaves its mark. A remover that did not remove within 30 s does not remove any more, so a mark that
  is two minutes older than the blob (both by the store's clock) is dead, and the commit takes it away.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

from sanderling.blobs.bucket import Bucket
from sanderling.blobs.opening import TRIALS
from sanderling.errors import Unavailable

FOLDER = "removing"
_REMOVE_S = 30.0
_DEAD_S = 120.0
_LOOK_S = 0.1


class Removals:
    """Removals of the blobs in one bucket, and the commits that must not be lost to them."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def remove_if_older(self, key: str, before: float) -> bool:
        """Remove the object when it was put before *before*; say whether it went."""
        mark = f"{FOLDER}/{key}/{uuid.uuid4().hex}"
        since = time.monotonic()
        await self._bucket.put(mark, b"")
        try:
            info = await self._bucket.find(key)
            if info is None or info.modified_at >= before or time.monotonic() - since > _REMOVE_S:
                return False
            await self._bucket.delete([key])
            return True
        finally:
            await self._bucket.delete([mark])

    async def put_safely(self, key: str, put: Callable[[], Awaitable[None]]) -> None:
        """Run *put*, which puts the object *key*, until no removal that began before can take it."""
        await put()
        since = time.monotonic()
        while await self._has_marks(key):
            while await self._has_marks(key):
                if time.monotonic() - since > 2 * _DEAD_S:
                    raise Unavailable(f"the object store {self._bucket.name} is removing this blob; try again")
                await asyncio.sleep(_LOOK_S)
            if await self._bucket.find(key) is None:
                await put()
            else:
                return

    async def remove_stale(self, before: float) -> int:
        """Take away the marks of removers that were killed, and what a killed start tried out; return how many."""
        stale = [
            info.key
            for folder in (FOLDER, TRIALS)
            async for info in self._bucket.list(folder)
            if info.modified_at < before
        ]
        await self._bucket.delete(stale)
        return len(stale)

    async def _has_marks(self, key: str) -> bool:
        """Say whether a removal is under way; marks that are dead go."""
        marks = [info async for info in self._bucket.list(f"{FOLDER}/{key}")]
        if not marks:
            return False
        info = await self._bucket.find(key)
        if info is not None:
            dead = {mark.key for mark in marks if info.modified_at - mark.modified_at > _DEAD_S}
            await self._bucket.delete(sorted(dead))
            marks = [mark for mark in marks if mark.key not in dead]
        return bool(marks)
