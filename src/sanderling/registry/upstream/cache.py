"""Pull-through as the endpoints see it.

    manifest by digest   here, or fetched once
    manifest by tag      here while its age is below the upstream's `ttl_s`; then asked for again (HEAD)
    blob                 here, or on its way; only when a manifest that is here names it
    referrers            those here, and those there when it can be reached

- What is here is served whatever the upstream does, with a `Warning` when it may
  be out of date. Only a clear "no such tag" of the upstream counts as an answer.
- The manifest of an upstream is kept before what it names: the names are what
  blobs may be fetched, and how large they may be.
- Nothing is asked twice at once: whoever wants the same waits for the same answer.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from sanderling.blobs import BlobInfo, BlobStore
from sanderling.errors import Denied, Invalid, SanderlingError
from sanderling.oci import (
    MAX_DOCUMENT_BYTES,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    media_types,
    parse_manifest,
)
from sanderling.registry.content.content import Content
from sanderling.registry.errors import (
    CacheReadOnly,
    ManifestNotFound,
    UpstreamDamaged,
    UpstreamRefused,
    UpstreamUnavailable,
)
from sanderling.registry.space.links import BlobLinks
from sanderling.registry.upstream.download import Download
from sanderling.registry.upstream.downloads import Downloads
from sanderling.registry.upstream.marks import Marks
from sanderling.registry.upstream.origin import Origins, Place
from sanderling.registry.upstream.rules import find_mirrored, find_upstream
from sanderling.registry.upstream.stored import FixedUpstreams, Upstreams
from sanderling.registry.upstream.troubles import Troubles

log = logging.getLogger(__name__)

# A client waits this long for an upstream when something is here that it can have instead.
HURRY_S = 8.0
BEGIN_S = 40.0
_MAX_REFERRERS = 1000
MAX_BLOB_BYTES = 256 << 30  # of what an upstream promises


@dataclass(frozen=True, slots=True)
class Expected:
    """A blob that is not here, and that a manifest which is here promises."""

    place: Place
    blob: BlobInfo


class PullThrough:
    """The cache of one process. Its work belongs to the event loop that first uses it."""

    def __init__(
        self,
        content: Content,
        blobs: BlobStore,
        links: BlobLinks,
        marks: Marks,
        upstreams: Upstreams | None = None,
        *,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._content, self._marks, self._upstreams = content, marks, upstreams or FixedUpstreams()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flights: dict[tuple[str, str], asyncio.Task[str]] = {}
        self._troubles = Troubles(monotonic)
        self._origins = Origins(self._troubles, self._spawn)
        self._downloads = Downloads(self._origins, content, blobs, links, marks, self._spawn)

    async def find_mirrored(self, repository: str, namespace: str) -> str:
        """Return the name here of what a client of a mirror calls *repository*; else the name itself."""
        return find_mirrored(await self._rules(), repository, namespace) or repository

    async def is_shared(self, repository: str) -> bool:
        """Say whether whoever is signed in may pull *repository*."""
        place = await self._find_place(repository)
        return place is not None and place.upstream.is_shared

    async def check_push(self, repository: str) -> None:
        """Raise `CacheReadOnly` when *repository* stands for one of an upstream."""
        if (place := await self._find_place(repository)) is not None:
            raise CacheReadOnly(repository, place.upstream.name, place.upstream.registry)

    async def ensure_manifest(self, repository: str, reference: str) -> str:
        """Bring the manifest here, or its tag up to date; return a warning when what is here may be old, or empty.

        Nothing happens to what is here or has no upstream. Raises
        `ManifestNotFound`, `UpstreamUnavailable`, `UpstreamRefused`, `Denied`.
        """
        place = await self._find_place(repository)
        if place is None:
            return ""
        held = await asyncio.to_thread(self._content.find_digest, repository, reference)
        if held is not None:
            if ":" in reference or not place.upstream.is_enabled:
                return ""
            age = await asyncio.to_thread(self._marks.age_of, repository, reference)
            if age is not None and 0 <= age < place.upstream.ttl_s:
                return ""
        if not place.upstream.is_enabled:
            raise ManifestNotFound(repository, reference, f"upstream {place.upstream.name} is switched off")
        if not place.upstream.allows(place.remote):
            if held is not None:
                return ""
            raise Denied(
                f"upstream {place.upstream.name} does not allow {place.remote}: "
                f"`sanderling registry upstream show {place.upstream.name}` shows what it does"
            )
        return await self._once((repository, reference), lambda: self._refresh(place, reference, held))

    async def find_expected(self, repository: str, digest: Digest) -> Expected | None:
        """Return the blob when an upstream is to have it, and how large it is to be."""
        place = await self._find_place(repository)
        if place is None or not place.upstream.is_enabled:
            return None
        size = await asyncio.to_thread(self._content.find_promised_size, repository, digest)
        return None if size is None else Expected(place, BlobInfo(digest, size))

    async def begin(self, expected: Expected) -> Download:
        """Return the blob's download when its first bytes are here, or when a small one is whole.

        Raises `UpstreamUnavailable`, `UpstreamRefused`, `ManifestNotFound` when none will come.
        """
        place, blob = expected.place, expected.blob
        if blob.size > MAX_BLOB_BYTES:
            why = f"its manifest promises {blob.size} bytes of {blob.digest}; {MAX_BLOB_BYTES} is the limit"
            raise UpstreamRefused(place.upstream.name, place.upstream.registry, why)
        download = self._downloads.ensure(place, blob.digest, blob.size)
        try:
            await download.begun(BEGIN_S)
        except TimeoutError as e:
            why = f"nothing of {blob.digest} came within {BEGIN_S:.0f} seconds; it is still being asked for"
            raise UpstreamUnavailable(place.upstream.name, place.upstream.registry, why, 5) from e
        return download

    async def referrers(self, repository: str, subject: Digest) -> list[dict[str, Any]]:
        """Return the descriptors that the upstream has about *subject*; none when it cannot be asked."""
        place = await self._find_place(repository)
        if place is None or not place.upstream.is_enabled or not place.upstream.allows(place.remote):
            return []
        try:
            found = await self._origins.referrers(place, subject, HURRY_S)
        except SanderlingError as e:
            log.info("referrers of %s: %s", place.source, e.message)
            return []
        return [descriptor.to_json() for descriptor in found[:_MAX_REFERRERS]]

    def covers(self, repository: str) -> bool:
        """Say whether *repository* stands for one of an upstream that is asked. Blocks."""
        found = find_upstream(self._upstreams.all(), repository)
        return found is not None and found[0].is_enabled and found[0].allows(found[1])

    def find_trouble(self, name: str) -> str:
        """Return why the upstream *name* is left alone just now, or empty. Blocks."""
        return next((self._troubles.find(one) for one in self._upstreams.all() if one.name == name), "")

    async def close(self) -> None:
        """End downloads, which go on when the server is there again, and connections."""
        running = [*self._tasks, *self._flights.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _rules(self) -> tuple[Any, ...]:
        held = self._upstreams.find_held()
        return await asyncio.to_thread(self._upstreams.all) if held is None else held

    async def _find_place(self, repository: str) -> Place | None:
        found = find_upstream(await self._rules(), repository)
        return None if found is None else Place(repository, *found)

    async def _refresh(self, place: Place, reference: str, held: Digest | None) -> str:
        """Ask the upstream; with *held*, what is here of the tag, its failures are only a warning."""
        try:
            if held is not None:
                found = await self._origins.find_manifest(place, reference, HURRY_S)
                if found is None:
                    why = f"{place.source} has it no more; {held} is still here"
                    raise ManifestNotFound(place.repository, reference, why)
                if found.digest == held:
                    await asyncio.to_thread(self._marks.checked, place.repository, reference)
                    return ""
            await self._fetch(place, reference)
        except (UpstreamUnavailable, UpstreamRefused) as e:
            if held is None:
                raise
            log.info("%s:%s is served as it is here: %s", place.repository, reference, e.message)
            return f"{place.source}:{reference} could not be asked for; this is what is here: {e.why}"
        return ""

    async def _fetch(self, place: Place, reference: str) -> None:
        raw, media_type = await self._origins.fetch_manifest(place, reference)
        is_tag = ":" not in reference
        digest = Digest.of(raw) if is_tag else Digest.parse(reference)
        try:
            parsed = parse_manifest(raw, media_type.partition(";")[0].strip() or None)
        except Invalid as e:
            why = f"the manifest {reference} of {place.remote} cannot be kept: {e.message}"
            raise UpstreamDamaged(place.upstream.name, place.upstream.registry, why) from e
        config = await self._find_config(place, parsed)
        tags = [reference] if is_tag else []
        await asyncio.to_thread(self._content.put_promised, place.repository, digest, parsed, tags, config)
        if is_tag:
            await asyncio.to_thread(self._marks.checked, place.repository, reference)

    async def _find_config(self, place: Place, parsed: Manifest | Index) -> ImageConfig | None:
        """Return the config of an image, for what is listed of it. It is small, and asked for next anyway."""
        if isinstance(parsed, Index) or parsed.config.media_type not in media_types.CONFIGS:
            return None
        if parsed.config.size > MAX_DOCUMENT_BYTES:
            return None
        with suppress(SanderlingError, TimeoutError):
            size = parsed.config.size
            download = self._downloads.ensure(place, parsed.config.digest, size)
            await download.begun(HURRY_S)
            return ImageConfig.parse(b"".join([piece async for piece in download.read(0, size)]))
        return None

    async def _once(self, key: tuple[str, str], work: Callable[[], Coroutine[Any, Any, str]]) -> str:
        """Wait for *work*, or for the same work that is under way. It goes on when this caller goes."""
        task = self._flights.get(key)
        if task is None:
            task = self._flights[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: tuple[str, str], task: asyncio.Task[str]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits any more

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # Not in a task group: it outlives the request that began it, and `close` ends it.
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
