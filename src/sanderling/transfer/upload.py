"""Send a blob: mount it, or send it in one stream that is taken up after a cut where the registry is.

    POST ?mount=&from= ──201──▶ there
          │202
          ▼
    PUT ?digest= with all of it ──201──▶ there
          │ cut, 5xx
          ▼
    is it there after all? ──▶ GET status ──▶ PATCH from there, PUT ?digest=
                                   │ unknown, or nothing new
                                   ▼
                               from the beginning, with a new upload

Source: distribution-spec 1.1, "Pushing blobs".
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from sanderling.errors import Denied, SanderlingError, Unavailable
from sanderling.oci import Digest, DigestMismatch
from sanderling.transfer.errors import Faulty, LengthMismatch, Missing, Refused
from sanderling.transfer.exchange import FINISH_TIMEOUT, NO_PATIENCE, Exchange, pull_scope, push_scope

if TYPE_CHECKING:
    from hashlib import _Hash

OpenFrom = Callable[[int], AsyncGenerator[bytes, None]]
Progress = Callable[[int], None]

_SNAPSHOT_EVERY_BYTES, _MAX_SNAPSHOTS = 8 * 1024 * 1024, 1024
# What a registry says of an upload that it does not know (any more), or that is elsewhere than we thought.
_LOST = frozenset({410, 416})  # and 404, which is Missing


class _SourceFailed(Exception):
    """Carries an error of the content's source through the HTTP client: it is no fault of the registry."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@dataclass(slots=True)
class _Content:
    """A blob that is read, and verified, as often as it has to be sent.

    The state of the hash is kept now and then, so that a part from the middle
    is verified without reading all that is before it.
    """

    digest: Digest
    size: int
    open_from: OpenFrom
    progress: Progress
    sent: int = 0
    snapshots: "list[tuple[int, _Hash]]" = field(default_factory=list)

    async def read(self, offset: int) -> AsyncIterator[bytes]:
        """Yield what comes from *offset* on; the last piece only when the whole is what the digest says."""
        try:
            async with aclosing(self._read(offset)) as pieces:
                async for piece in pieces:
                    yield piece
        except (SanderlingError, OSError) as e:
            raise _SourceFailed(e) from e

    async def _read(self, offset: int) -> AsyncGenerator[bytes, None]:
        every = max(_SNAPSHOT_EVERY_BYTES, self.size // _MAX_SNAPSHOTS)
        known = [(at, state) for at, state in self.snapshots if at <= offset]
        position, state = known[-1] if known else (0, hashlib.new(self.digest.algorithm))
        state = state.copy()
        async with aclosing(self.open_from(position)) as pieces:
            async for piece in pieces:
                begins, position = position, position + len(piece)
                if position > self.size:
                    raise LengthMismatch(what=self.digest, expected=self.size, actual=position)
                state.update(piece)
                if position == self.size:
                    self._check(state)
                elif position >= (self.snapshots[-1][0] if self.snapshots else 0) + every:
                    self.snapshots.append((position, state.copy()))
                if position > offset:
                    fresh = piece[max(0, offset - begins) :]
                    yield fresh
                    self.sent += len(fresh)
                    self.progress(position)
                if position == self.size:
                    return  # and verified: what may come after it is not part of it
        if position < self.size:
            raise LengthMismatch(what=self.digest, expected=self.size, actual=position)
        if self.size == 0:
            self._check(state)

    def _check(self, state: "_Hash") -> None:
        actual = Digest(f"{self.digest.algorithm}:{state.hexdigest()}")
        if actual != self.digest:
            raise DigestMismatch(expected=self.digest, actual=actual)


class Upload:
    """Pushes blobs into one repository."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def has(self, digest: Digest) -> bool:
        """Say whether the repository has the blob."""
        exchange = self._exchange
        async with exchange.request(
            "HEAD",
            exchange.url(f"blobs/{digest}"),
            f"asking for {digest}",
            expected=(200, 404),
            scopes=pull_scope(exchange.repository),
        ) as response:
            return response.status_code == 200

    async def push_whole(self, digest: Digest, raw: bytes) -> bool:
        """Send a small blob in one request; say whether the registry takes it so: it may (distribution-spec 1.1)."""
        exchange = self._exchange
        digest.verify(raw)
        try:
            async with exchange.request(
                "POST",
                exchange.url(f"blobs/uploads/?digest={quote(digest)}"),
                f"uploading {digest}",
                expected=(201, 202),
                scopes=push_scope(exchange.repository),
                headers={"Content-Type": "application/octet-stream", "Content-Length": str(len(raw))},
                body=raw,
            ) as response:
                if response.status_code == 201:
                    return True
                location = exchange.location(response)
        except (Denied, Refused, Missing):
            return False
        await self._cancel(location)
        return False

    async def push(
        self, digest: Digest, size: int, open_from: OpenFrom, mount_from: str | None, progress: Progress
    ) -> int:
        """Send a blob; return the bytes that went over the wire. See `RegistryClient.push_blob`."""
        content = _Content(digest, size, open_from, progress)
        location = await self._begin(digest, mount_from)
        if location is None:
            progress(size)
            return 0
        failures, offset = 0, 0
        while True:
            try:
                await self._send(location, content, offset)
            except _SourceFailed as e:
                await self._cancel(location)
                raise e.error from e.error.__cause__
            except (Unavailable, Refused, Missing) as e:
                if isinstance(e, Refused) and e.status not in _LOST:
                    raise
                failures += 1
                if failures >= self._exchange.patience.attempts:
                    raise
                asked_s = e.retry_after_s if isinstance(e, Faulty) else 0.0
                await asyncio.sleep(max(self._exchange.patience.pause_s(failures - 1), asked_s))
            else:
                progress(size)
                return content.sent
            if await self._is_there_after_all(digest):
                progress(size)
                return content.sent
            resumed = await self._status(location, size)
            if resumed is not None and resumed[1] > offset:
                failures = 0  # as long as each try brings something, there is no end to them
                location, offset = resumed
            else:
                begun = await self._begin(digest, None)
                if begun is None:
                    progress(size)
                    return content.sent
                location, offset = begun, 0
            progress(offset)

    async def _begin(self, digest: Digest, mount_from: str | None) -> str | None:
        """Begin an upload and return where it goes; None when the blob was mounted."""
        exchange, what = self._exchange, f"uploading {digest}"
        query = f"?mount={quote(digest)}&from={quote(mount_from, safe='/')}" if mount_from else ""
        try:
            async with exchange.request(
                "POST",
                exchange.url(f"blobs/uploads/{query}"),
                what,
                expected=(201, 202),
                scopes=push_scope(exchange.repository, mount_from),
                headers={"Content-Length": "0"},
            ) as response:
                if response.status_code == 201:
                    return None
                return exchange.location(response)
        except (Denied, Refused, Missing):
            # distribution-spec 1.1 wants 202 from a registry that does not mount; not all give it.
            if mount_from is None:
                raise
            return await self._begin(digest, None)

    async def _send(self, location: str, content: _Content, offset: int) -> None:
        """Send all in one request, or the rest, from *offset* on, in a chunk before the end."""
        finish = f"{location}{'&' if '?' in location else '?'}digest={quote(content.digest)}"
        if offset == 0:
            await self._put(finish, content, content.size, lambda: content.read(0))
            return
        if offset == content.size:
            await self._put(finish, content, 0, None)
            return
        exchange = self._exchange
        async with exchange.request(
            "PATCH",
            location,
            f"uploading {content.digest}",
            expected=(202, 204),
            scopes=push_scope(exchange.repository),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(content.size - offset),
                "Content-Range": f"{offset}-{content.size - 1}",
            },
            body=lambda: content.read(offset),
            patience=NO_PATIENCE,
            timeout=FINISH_TIMEOUT,
        ) as response:
            moved = exchange.location(response)
        await self._put(f"{moved}{'&' if '?' in moved else '?'}digest={quote(content.digest)}", content, 0, None)

    async def _put(
        self, url: str, content: _Content, length: int, body: Callable[[], AsyncIterator[bytes]] | None
    ) -> None:
        exchange = self._exchange
        async with exchange.request(
            "PUT",
            url,
            f"uploading {content.digest}",
            expected=(201, 204),
            scopes=push_scope(exchange.repository),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(length)},
            body=body if length else None,
            patience=NO_PATIENCE,
            timeout=FINISH_TIMEOUT,
        ):
            return

    async def _is_there_after_all(self, digest: Digest) -> bool:
        """Say whether the answer was lost, and not the blob."""
        try:
            return await self.has(digest)
        except SanderlingError:
            return False

    async def _status(self, location: str, size: int) -> tuple[str, int] | None:
        """Return where the upload goes on, and how much of it is there; None when it must begin again."""
        exchange = self._exchange
        try:
            async with exchange.request(
                "GET",
                location,
                "asking how far the upload is",
                expected=(204, 202, 200),
                scopes=push_scope(exchange.repository),
                patience=NO_PATIENCE,
            ) as response:
                found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", response.headers.get("range", "").strip())
                offset = int(found[1]) + 1 if found else 0
                moved = exchange.location(response) if "location" in response.headers else location
        except SanderlingError:
            return None
        # "0-0" says one byte or none: to begin again costs nothing then.
        return (moved, offset) if 1 < offset <= size else None

    async def _cancel(self, location: str) -> None:
        """Have the registry forget what is half there; it does so by itself in time."""
        with suppress(SanderlingError):
            async with self._exchange.request(
                "DELETE",
                location,
                "cancelling the upload",
                expected=(204, 202, 200),
                scopes=push_scope(self._exchange.repository),
                patience=NO_PATIENCE,
            ):
                return
