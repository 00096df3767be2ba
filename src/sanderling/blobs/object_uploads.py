"""Resumable uploads in a bucket. Every server of the bucket can go on with them; nothing is kept on a disk.

    uploads/<id>/begun                      while this is there, so is the upload
    uploads/<id>/piece-<offset>-<nonce>     bytes; no two writers use one name
    uploads/<id>/at-<offset>                which piece counts at this offset, its size and its sha256

The rules, and what a kill at any point leaves:

- A piece counts from the moment its `at-` object is there, and only then it is acknowledged. Killed before: the piece
  is litter, the upload ends where it did, and the client sends those bytes again.
- `at-` objects are put *create only*. Of two servers that write at one offset at once, one wins; the other removes
  its own piece and says `WrongOffset`. Within one server the second request gets `UploadBusy` before it sends a byte.
- Where the store does not know create-only puts (`Bucket.has_create_only`), a writer looks again just before it puts
  its `at-`. Two servers whose looks and puts fall into the same few milliseconds may then both acknowledge, and the
  last one counts. The digest is verified over what counts: a mixed blob never appears, the upload is refused.
- Commit: verify, put the blob, remove `begun`, remove the rest. Killed before the blob is there: the upload is as it
  was. Killed before `begun` is removed: the blob is there, and the client may commit again. Killed after: litter.
- Abort: remove `begun`, then the rest. Who was writing meanwhile gets `UploadNotFound`, or leaves litter.
- Litter is what has no `begun` or is abandoned: `remove_stale` takes it.

An append that nothing slows down is one piece, so that a blob that came in one request is copied within the store. It
is several when the client is slow and others wait, when it passes 4 GiB, and when the upload was resumed; such a blob
is read back, verified and put again.
"""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sanderling.blobs.bucket import Bucket
from sanderling.blobs.object_removals import Removals
from sanderling.blobs.port import UploadBusy, UploadNotFound, WrongOffset
from sanderling.blobs.spool import Spool, SpoolClosed
from sanderling.errors import Unavailable
from sanderling.oci import Digest, DigestMismatch, Hasher

FOLDER = "uploads"
# What one sending upload holds in memory is a part that fills and one that is sent, so this bounds the memory.
SENDING_AT_ONCE = 3
_ENOUGH_BYTES = 8 << 20
_SMALL_BYTES = 4 << 20
_MAX_PIECE_BYTES = 4 << 30  # a copy within S3 takes 5 GiB at most
_READ_BYTES = 1 << 20

_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"(?:piece-(?P<offset>\d{20})-(?P<nonce>[0-9a-f]{32})|at-(?P<at>\d{20}))")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an upload: where they begin, how many they are, and the object that holds them."""

    key: str
    offset: int
    nonce: str
    size: int


@dataclass(slots=True)
class UploadState:
    """What the bucket has of an upload: the pieces that count, in their order, and every object of it."""

    pieces: list[Piece] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The offset at which it goes on."""
        return sum(piece.size for piece in self.pieces)


class _Turns:
    """A semaphore that knows whether somebody waits."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._waiting = 0

    def are_wanted(self) -> bool:
        return self._waiting > 0

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class ObjectUploads:
    """The uploads in a bucket. *temporary* is a folder for what waits to be sent; None is the system's."""

    def __init__(self, bucket: Bucket, removals: Removals, temporary: Path | None) -> None:
        self._bucket, self._removals, self._temporary = bucket, removals, temporary
        self._turns = _Turns(SENDING_AT_ONCE)
        self._held: set[str] = set()

    async def begin(self) -> str:
        """Return the id of a new, empty upload."""
        upload_id = uuid.uuid4().hex
        await self._bucket.put(f"{FOLDER}/{upload_id}/begun", b"")
        return upload_id

    async def offset(self, upload_id: str) -> int:
        """Return how many bytes count; raise `UploadNotFound`."""
        return (await self._state(upload_id)).end

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterable[bytes]) -> int:
        """Add *chunks*; what came before *chunks* raised is kept. See `BlobStore.append`."""
        with self._holding(upload_id):
            end = (await self._state(upload_id)).end
            if offset != end:
                raise WrongOffset(given=offset, expected=end)
            with Spool(self._temporary) as spool:
                sending = asyncio.ensure_future(self._send(upload_id, offset, spool))
                try:
                    async for chunk in chunks:
                        await spool.write(chunk)
                except SpoolClosed:
                    pass  # sending ended with an error, which is raised below
                finally:
                    with suppress(SpoolClosed):
                        await spool.end()
                    end = await sending
                return end

    async def commit(self, upload_id: str, digest: Digest, target: str) -> int:
        """Verify the upload, make it the object *target* and end it; return its size."""
        with self._holding(upload_id):
            state = await self._state(upload_id)
            try:
                await self._removals.put_safely(target, lambda: self._place(state, digest, target))
            except FileNotFoundError:
                raise UploadNotFound(upload_id) from None  # another server ended it meanwhile
            await self._end(upload_id, state)
            return state.end

    async def abort(self, upload_id: str) -> None:
        """End the upload."""
        with self._holding(upload_id):
            await self._end(upload_id, await self._state(upload_id))

    async def remove_stale(self, before: float) -> int:
        """Remove the uploads that nobody touched since *before* (seconds of the epoch); return how many."""
        touched: dict[str, float] = {}
        keys: dict[str, list[str]] = {}
        async for info in self._bucket.list(FOLDER):
            upload_id = info.key.removeprefix(f"{FOLDER}/").partition("/")[0]
            touched[upload_id] = max(info.modified_at, touched.get(upload_id, 0))
            keys.setdefault(upload_id, []).append(info.key)
        stale = [upload_id for upload_id, at in touched.items() if at < before and upload_id not in self._held]
        for upload_id in stale:
            await self._end(upload_id, UploadState(keys=keys[upload_id]))
        return len(stale)

    @contextmanager
    def _holding(self, upload_id: str) -> Iterator[None]:
        if upload_id in self._held:
            raise UploadBusy(upload_id)
        self._held.add(upload_id)
        try:
            yield
        finally:
            self._held.discard(upload_id)

    async def _state(self, upload_id: str) -> UploadState:
        """Look at what the bucket has; raise `UploadNotFound`."""
        if not _ID.fullmatch(upload_id):
            raise UploadNotFound(upload_id)
        state, is_begun = UploadState(), False
        counted: set[int] = set()
        found: dict[int, list[Piece]] = {}
        async for info in self._bucket.list(f"{FOLDER}/{upload_id}"):
            state.keys.append(info.key)
            name = info.key.rpartition("/")[2]
            is_begun = is_begun or name == "begun"
            match = _NAME.fullmatch(name)
            if match is not None and match["at"]:
                counted.add(int(match["at"]))
            elif match is not None:
                at = int(match["offset"])
                found.setdefault(at, []).append(Piece(info.key, at, match["nonce"], info.size))
        if not is_begun:
            raise UploadNotFound(upload_id)
        end = 0
        while end in counted:
            piece = await self._counted(upload_id, end, found.get(end, []))
            if piece is None:
                break
            state.pieces.append(piece)
            end += piece.size
        return state

    async def _counted(self, upload_id: str, offset: int, found: list[Piece]) -> Piece | None:
        """Return the piece that counts at *offset*; only where several were put must it be looked up."""
        if len(found) > 1:
            nonce = (await self._read_at(upload_id, offset)).get("piece")
            found = [piece for piece in found if piece.nonce == nonce]
        return found[0] if found and found[0].size else None

    async def _read_at(self, upload_id: str, offset: int) -> dict[str, object]:
        try:
            document = json.loads(await self._bucket.read(_at(upload_id, offset)))
        except FileNotFoundError:
            raise UploadNotFound(upload_id) from None
        except ValueError:
            document = None
        return document if isinstance(document, dict) else {}

    async def _send(self, upload_id: str, offset: int, spool: Spool) -> int:
        """Put what comes into *spool* as pieces until it ends; return the offset then."""
        try:
            while await spool.gather(_ENOUGH_BYTES):
                hasher = Hasher()
                nonce = uuid.uuid4().hex
                key = f"{FOLDER}/{upload_id}/piece-{offset:020}-{nonce}"
                async with self._turns:
                    await self._put_piece(key, spool, hasher)
                await self._count(upload_id, Piece(key, offset, nonce, hasher.size), hasher.digest())
                offset += hasher.size
            return offset
        finally:
            spool.close()

    async def _put_piece(self, key: str, spool: Spool, hasher: Hasher) -> None:
        if not spool.is_ended or spool.waiting > _SMALL_BYTES:
            await self._bucket.put_stream(key, self._pieces(spool, hasher))
            return
        # All of a small one at once is one request instead of three.
        await self._bucket.put(key, b"".join([piece async for piece in self._pieces(spool, hasher)]))

    async def _pieces(self, spool: Spool, hasher: Hasher) -> AsyncIterator[bytes]:
        while hasher.size < _MAX_PIECE_BYTES:
            piece = await spool.read(_READ_BYTES, self._turns.are_wanted)
            if not piece:
                return
            await asyncio.to_thread(hasher.update, piece)
            yield piece

    async def _count(self, upload_id: str, piece: Piece, digest: Digest) -> None:
        """Make *piece* count, unless another one does or the upload has ended."""
        content = json.dumps({"piece": piece.nonce, "size": piece.size, "sha256": digest.hex}).encode()
        try:
            end = await self.offset(upload_id)
            if end == piece.offset and await self._bucket.create(_at(upload_id, piece.offset), content):
                return
            raise WrongOffset(given=piece.offset, expected=await self.offset(upload_id))
        except (WrongOffset, UploadNotFound):
            await self._bucket.delete([piece.key])
            raise

    async def _place(self, state: UploadState, digest: Digest, target: str) -> None:
        """Put the bytes that count at *target*; raise `DigestMismatch`, FileNotFoundError when they have gone."""
        if len(state.pieces) == 1 and digest.algorithm == "sha256":
            piece = state.pieces[0]
            upload_id = piece.key.split("/")[1]
            known = await self._read_at(upload_id, 0)
            if (known.get("piece"), known.get("size")) == (piece.nonce, piece.size):
                actual = Digest.parse(f"sha256:{known.get('sha256')}")
                if actual != digest:
                    raise DigestMismatch(expected=digest, actual=actual)
                await self._bucket.copy(piece.key, target)
                return
        hasher = Hasher(digest.algorithm)
        async with self._turns:
            if state.end > _SMALL_BYTES:
                await self._bucket.put_stream(target, self._verified(state, digest, hasher), state.end)
                return
            await self._bucket.put(target, b"".join([part async for part in self._verified(state, digest, hasher)]))

    async def _verified(self, state: UploadState, digest: Digest, hasher: Hasher) -> AsyncIterator[bytes]:
        """Yield all bytes; raise `DigestMismatch` instead of ending when they are others than promised."""
        for piece in state.pieces:
            async for part in self._bucket.stream(piece.key):
                await asyncio.to_thread(hasher.update, part)
                yield part
        if hasher.digest() != digest:
            raise DigestMismatch(expected=digest, actual=hasher.digest())

    async def _end(self, upload_id: str, state: UploadState) -> None:
        begun = f"{FOLDER}/{upload_id}/begun"
        await self._bucket.delete([begun])
        with suppress(Unavailable):  # the upload has ended: what stays is litter
            await self._bucket.delete([key for key in state.keys if key != begun])


def _at(upload_id: str, offset: int) -> str:
    return f"{FOLDER}/{upload_id}/at-{offset:020}"
