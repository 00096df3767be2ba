"""One download a blob, however many ask for it; it survives cuts, and restarts of the server.

- A download goes on when those who asked have gone: the next one finds it here.
- A cut is taken up by range, up to ATTEMPTS times without a byte between.
- What has come stays in an upload, which `Marks` knows: the download after a
  restart goes on with it. An upload that is damaged is ended at once.
- At most MAX_DOWNLOADS at a time; the others wait for their turn.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any

from sanderling.blobs import BlobStore, UploadBusy, UploadNotFound, WrongOffset
from sanderling.errors import SanderlingError
from sanderling.oci import Digest, DigestMismatch
from sanderling.registry.content.content import Content
from sanderling.registry.errors import UpstreamDamaged, UpstreamLimited, UpstreamUnavailable
from sanderling.registry.space.links import BlobLinks
from sanderling.registry.upstream.download import Download
from sanderling.registry.upstream.marks import Marks
from sanderling.registry.upstream.origin import Origins, Place

log = logging.getLogger(__name__)

MAX_DOWNLOADS = 16
ATTEMPTS = 4
PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
SILENCE_S = 30.0
# Slower than this is taken for a peer that holds us up: PACE_BYTES in PACE_S seconds.
PACE_BYTES, PACE_S = 64 * 1024, 60.0


class Downloads:
    """The downloads of one process."""

    def __init__(
        self,
        origins: Origins,
        content: Content,
        blobs: BlobStore,
        links: BlobLinks,
        marks: Marks,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._origins, self._content, self._blobs, self._links = origins, content, blobs, links
        self._marks, self._spawn = marks, spawn
        self._running: dict[tuple[str, Digest], Download] = {}
        self._turns = asyncio.Semaphore(MAX_DOWNLOADS)

    def find(self, place: Place, digest: Digest) -> Download | None:
        """Return the download of this blob that is running."""
        return self._running.get((place.repository, digest))

    def ensure(self, place: Place, digest: Digest, size: int) -> Download:
        """Return the download of this blob; it is begun when there is none."""
        key = (place.repository, digest)
        download = self._running.get(key)
        if download is None:
            self._origins.troubles.check(place.upstream, (place.upstream, place.remote, "blob", digest))
            download = self._running[key] = Download(digest, size, self._blobs)
            self._spawn(self._run(place, download))
        return download

    async def _run(self, place: Place, download: Download) -> None:
        try:
            async with self._turns:
                if not await self._is_here(place, download):
                    await self._fetch(place, download)
        except SanderlingError as e:
            log.warning("blob %s of %s was not pulled through: %s", download.digest, place.source, e.message)
            download.failed(e)
        except asyncio.CancelledError:
            download.failed(_unavailable(place, "this server is being stopped"))
            raise
        except Exception:
            log.exception("blob %s of %s was not pulled through", download.digest, place.source)
            download.failed(_unavailable(place, "an error of this server, which its log has"))
        else:
            download.committed()
        finally:
            # Whoever asks from here on finds the blob's row, or begins anew.
            del self._running[(place.repository, download.digest)]

    async def _is_here(self, place: Place, download: Download) -> bool:
        """Say whether the blob came meanwhile; or link it, when it came from this upstream for another repository.

        The upstream is asked whether this repository of its own has it: what came
        from elsewhere is never shown on the word of an upstream's manifest.
        """
        digest = download.digest
        known = await asyncio.to_thread(self._content.find_blob, place.repository, digest)
        if known is None:
            elsewhere = await asyncio.to_thread(self._content.find_blob_anywhere, digest)
            source = next((name for name, _ in elsewhere if place.upstream.find_remote(name) is not None), None)
            if source is None or await self._blobs.stat(digest) is None:
                return False
            if not await self._origins.has_blob(place, digest):
                return False
            known = await asyncio.to_thread(self._content.mount_blob, place.repository, source, digest)
            if known is None:  # it went as garbage at this moment
                return False
        if known.size != download.size:
            raise _damaged(place, f"{digest} has {known.size} bytes, and its manifest promises {download.size}")
        return True

    async def _fetch(self, place: Place, download: Download) -> None:
        """Bring the blob into the store and show it in its repository, if there is room."""
        await asyncio.to_thread(self._content.check_room, place.repository, download.size, download.digest)
        upload_id, offset = await self._open_upload(place, download.digest)
        is_resumed = offset > 0
        try:
            download.resume_at(upload_id, offset)
            try:
                await self._fill(place, download, upload_id)
            except (UploadBusy, UploadNotFound, WrongOffset):
                # Another server is at the same blob, or its upload was ended: ours is a new one.
                upload_id = await self._begin_upload(place, download.digest)
                download.resume_at(upload_id, 0)
                await self._fill(place, download, upload_id)
            await self._links.commit(place.repository, upload_id, download.digest)
        except DigestMismatch as e:
            await self._end(place, download.digest, upload_id)
            damaged = _damaged(place, f"{download.digest} is another there ({e.actual})")
            if not is_resumed:  # else our own part may be the damaged one, and the next try begins anew
                key = (place.upstream, place.remote, "blob", download.digest)
                self._origins.troubles.answered(key, damaged)
            raise damaged from e
        except SanderlingError as e:
            if not isinstance(e, UpstreamUnavailable) or isinstance(e, UpstreamDamaged):
                await self._end(place, download.digest, upload_id)
            raise
        await asyncio.to_thread(self._marks.ended, place.repository, download.digest)

    async def _fill(self, place: Place, download: Download, upload_id: str) -> None:
        """Append until all is there; take up what is cut."""
        offset, failures = download.received, 0
        while offset < download.size:
            before = offset
            offset, error = await self._append(place, download, upload_id, offset)
            if error is None:
                continue
            failures = failures + 1 if offset == before else 1
            # With nothing begun, it is for the client to try again.
            if failures >= ATTEMPTS or not offset or not isinstance(error, UpstreamUnavailable):
                raise error
            if isinstance(error, UpstreamLimited | UpstreamDamaged):
                raise error
            if offset != download.received:
                download.resume_at(upload_id, offset)
            await asyncio.sleep(min(max(PAUSE_S * failures, error.retry_after_s), MAX_PAUSE_S))

    async def _append(
        self, place: Place, download: Download, upload_id: str, offset: int
    ) -> tuple[int, SanderlingError | None]:
        """Go on at *offset*; return the new one, and what the upstream failed with. The store's errors are raised."""
        failed: list[SanderlingError] = []
        feed = self._feed(place, download, offset, failed)
        async with aclosing(feed):
            offset = await self._blobs.append(upload_id, offset, feed)
        if not failed and offset < download.size:
            failed.append(_unavailable(place, f"it ended at byte {offset} of {download.size}"))
        return offset, failed[0] if failed else None

    async def _feed(
        self, place: Place, download: Download, offset: int, failed: list[SanderlingError]
    ) -> AsyncGenerator[bytes, None]:
        """Yield what comes from *offset*; an error of the upstream goes to *failed*, and ends it."""
        try:
            async with self._origins.open_blob(place, download.digest, offset) as (begins, pieces):
                skip = offset - begins  # it knows no ranges: what we have comes again
                pace = _Pace()
                stream = aiter(pieces)
                while True:
                    try:
                        async with asyncio.timeout(SILENCE_S):
                            piece = await anext(stream, None)
                    except TimeoutError:
                        raise _unavailable(place, f"it sent nothing for {SILENCE_S:.0f} seconds") from None
                    if piece is None:
                        return
                    if not pace.is_kept(len(piece)):
                        raise _unavailable(place, f"it sends less than {PACE_BYTES} bytes in {PACE_S:.0f} seconds")
                    fresh, skip = piece[skip:], max(0, skip - len(piece))
                    if download.received + len(fresh) > download.size:
                        raise _damaged(
                            place, f"{download.digest} is longer there than the {download.size} bytes promised"
                        )
                    if fresh:
                        download.feed(fresh)
                        yield fresh
        except SanderlingError as e:
            failed.append(e)

    async def _open_upload(self, place: Place, digest: Digest) -> tuple[str, int]:
        """Return the upload that has the most of the blob, and how much."""
        known = await asyncio.to_thread(self._marks.find_upload, place.repository, digest)
        if known is not None:
            with suppress(UploadNotFound, UploadBusy, WrongOffset):
                await asyncio.to_thread(self._content.check_upload, known, place.repository)
                return known, await self._blobs.upload_offset(known)
        return await self._begin_upload(place, digest), 0

    async def _begin_upload(self, place: Place, digest: Digest) -> str:
        upload_id = await self._blobs.begin_upload()
        await asyncio.to_thread(self._content.add_upload, upload_id, place.repository)
        await asyncio.to_thread(self._marks.begun, place.repository, digest, upload_id)
        return upload_id

    async def _end(self, place: Place, digest: Digest, upload_id: str) -> None:
        with suppress(SanderlingError):
            await self._blobs.abort(upload_id)
        await asyncio.to_thread(self._content.end_upload, upload_id)
        await asyncio.to_thread(self._marks.ended, place.repository, digest)


class _Pace:
    """Notices a peer that sends just enough not to be silent."""

    def __init__(self) -> None:
        self._since, self._bytes = monotonic(), 0

    def is_kept(self, size: int) -> bool:
        self._bytes += size
        if (now := monotonic()) - self._since < PACE_S:
            return True
        kept, self._since, self._bytes = self._bytes >= PACE_BYTES, now, 0
        return kept


def _unavailable(place: Place, why: str) -> UpstreamUnavailable:
    return UpstreamUnavailable(place.upstream.name, place.upstream.registry, why)


def _damaged(place: Place, why: str) -> UpstreamDamaged:
    return UpstreamDamaged(place.upstream.name, place.upstream.registry, why)
