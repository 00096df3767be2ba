"""A bucket of an object store, through obstore, which `opening` connects and only this module speaks to.

- Whatever goes wrong becomes `Unavailable`, or FileNotFoundError for one object. A message holds the error code of
  the store and nothing else of its answer, for answers may repeat parts of the signed request.
- An object appears whole or not at all; what is listed and read is what was put last (strong consistency, as S3 and
  the stores that follow it promise).
- Nothing waits for ever: small requests end after 30 s, and a stream ends when nothing came for a minute.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from sanderling.blobs.port import StoreFull
from sanderling.errors import Unavailable

if TYPE_CHECKING:
    from obstore import GetResult, OffsetRange

_PART_BYTES = 5 << 20  # the least that S3 takes
_MAX_PARTS = 9_000  # S3 takes 10,000
_READ_BYTES = 1 << 18
_SMALL_S = 30.0
_SILENCE_S = 60.0
_COPY_S = 600.0
_CODE = re.compile(r"<Code>([A-Za-z0-9_.-]{1,60})</Code>")
_FULL = {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "InsufficientCapacity", "status 507"}
_STATUS = re.compile(r"non-2xx status code: (\d{3})")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object: its key below the store's prefix, its size, and when it was put (by the store's clock)."""

    key: str
    size: int
    modified_at: float


def reason(error: BaseException) -> str:
    """Return why the store refused, in words that hold no secret."""
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    if code is not None:
        return code.group(1)
    if status is not None:
        return f"status {status.group(1)}"
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return "access denied"
    if isinstance(error, TimeoutError) or "operation timed out" in text:
        return "it does not answer in time"
    if "error sending request" in text or "HTTP error" in text:
        return "it cannot be reached"
    return type(error).__name__


class Bucket:
    """The objects below one prefix. *name* is for messages; *has_create_only* says what `create` can promise."""

    def __init__(self, store: ObjectStore, name: str, *, has_create_only: bool) -> None:
        self._store, self.name, self.has_create_only = store, name, has_create_only
        self._has_ranges = True

    async def find(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, or None."""
        try:
            async with self._request():
                meta = await obstore.head_async(self._store, key)
        except FileNotFoundError:
            return None
        return ObjectInfo(key, meta["size"], meta["last_modified"].timestamp())

    async def read(self, key: str) -> bytes:
        """Return the whole of a small object; raise FileNotFoundError."""
        async with self._request():
            return bytes(await (await obstore.get_async(self._store, key)).bytes_async())

    async def put(self, key: str, content: bytes) -> None:
        """Put a small object, over what is there."""
        async with self._request():
            await obstore.put_async(self._store, key, content, use_multipart=False)

    async def create(self, key: str, content: bytes) -> bool:
        """Put a small object unless one is there; say whether it is this one.

        Without `has_create_only` the store does not look, and the last one stays.
        """
        if not self.has_create_only:
            await self.put(key, content)
            return True
        try:
            async with self._request():
                await obstore.put_async(self._store, key, content, mode="create")
        except AlreadyExistsError:
            # It may be ours: a request whose answer was lost is sent again.
            return await self.read(key) == content
        return True

    async def put_stream(self, key: str, chunks: AsyncIterable[bytes], size: int = 0) -> None:
        """Put an object of any size; what *chunks* raises is raised, and nothing appears then.

        Memory holds a part that fills and one that is sent: 10 MiB, and more when *size* passes 44 GiB.
        """
        part = max(_PART_BYTES, -(-size // _MAX_PARTS))
        failure: list[BaseException] = []

        async def watched() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            except BaseException as e:
                failure.append(e)
                raise

        try:
            with self._errors():
                await obstore.put_async(self._store, key, watched(), chunk_size=part, max_concurrency=1)
        except Exception:
            if failure:
                raise failure[0] from None
            raise

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from *start* up to *end*; raise FileNotFoundError at the first step."""
        is_nothing = end is not None and end <= start
        if is_nothing or start:  # stores answer a range that is past the end with an error
            info = await self.find(key)
            if info is None:
                raise FileNotFoundError(key)
            if is_nothing or start >= info.size:
                return
        result, position = await self._get(key, start, end)
        pieces = aiter(result.stream(min_chunk_size=_READ_BYTES))
        while end is None or position < end:
            try:
                with self._errors():
                    async with asyncio.timeout(_SILENCE_S):
                        piece = bytes(await anext(pieces))
            except StopAsyncIteration:
                return
            wanted = piece[max(0, start - position) : None if end is None else end - position]
            position += len(piece)
            if wanted:
                yield wanted

    async def _get(self, key: str, start: int, end: int | None) -> "tuple[GetResult, int]":
        """Return an answer that holds the range, and the offset at which it begins.

        From the start on, all is asked for and the rest not read: that works with every store.
        """
        if start and self._has_ranges:
            part: tuple[int, int] | OffsetRange = {"offset": start} if end is None else (start, end)
            try:
                async with self._request():
                    return await obstore.get_async(self._store, key, options={"range": part}), start
            except _NoRanges:
                self._has_ranges = False
        async with self._request():
            return await obstore.get_async(self._store, key), 0

    async def copy(self, source: str, target: str) -> None:
        """Copy an object of up to 5 GiB, within the store; raise FileNotFoundError."""
        async with self._request(_COPY_S):
            await obstore.copy_async(self._store, source, target)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield every object below *prefix*, a folder's name without the last slash."""
        batches = aiter(obstore.list(self._store, prefix, chunk_size=1000))
        while True:
            try:
                async with self._request():
                    batch = await anext(batches)
            except StopAsyncIteration:
                return
            for meta in batch:
                yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"].timestamp())

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there too."""
        if not keys:
            return
        try:
            async with self._request():
                await obstore.delete_async(self._store, list(keys))
        except FileNotFoundError:
            return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, TimeoutError, ValueError) as e:
            if isinstance(e, AlreadyExistsError):
                raise
            if "non-partial response" in str(e):
                raise _NoRanges from None
            raise self._unavailable(e) from None  # the store's own words may hold parts of the signed request
        except FileNotFoundError as e:
            if "NoSuchBucket" in str(e):
                raise self._unavailable(e) from None
            raise FileNotFoundError(self.name) from None

    @asynccontextmanager
    async def _request(self, timeout_s: float = _SMALL_S) -> AsyncIterator[None]:
        with self._errors():
            async with asyncio.timeout(timeout_s):
                yield

    def _unavailable(self, error: BaseException) -> Unavailable:
        why = reason(error)
        if why in _FULL:
            return StoreFull(
                f"the object store {self.name} is full ({why}): remove what is not needed, or give it room"
            )
        return Unavailable(f"the object store {self.name}: {why}; try again, and look at its state")


class _NoRanges(Exception):
    """The store answers a range with status 200, which obstore refuses; some do (gofakes3 until 2026)."""
