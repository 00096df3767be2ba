"""The registry as the server uses it."""

import asyncio
import time
from collections.abc import Callable, Iterable

from sqlalchemy import Engine

from sanderling.blobs import BlobStore, UploadNotFound
from sanderling.oci import Digest
from sanderling.registry.access.credentials import Authorizer
from sanderling.registry.content.content import Content
from sanderling.registry.content.listings import ImageInfo, Listings, TagInfo
from sanderling.registry.protocol.app import RegistryApp
from sanderling.registry.protocol.blob_endpoint import BlobEndpoint
from sanderling.registry.protocol.list_endpoint import ListEndpoint
from sanderling.registry.protocol.manifest_endpoint import ManifestEndpoint
from sanderling.registry.protocol.upload_endpoint import UploadEndpoint
from sanderling.registry.space.links import BlobLinks
from sanderling.registry.space.removals import GRACE_S
from sanderling.registry.space.report import Report
from sanderling.registry.space.space import Space
from sanderling.registry.upstream.cache import PullThrough
from sanderling.registry.upstream.marks import Marks
from sanderling.registry.upstream.stored import Upstreams


class Registry:
    """Repositories over SQL and a blob store; `app` speaks the protocol.

    The methods block; asynchronous callers use a thread. *login_server* is the
    name and port that users give `docker login`. *upstreams* are the registries
    that are pulled through: `FixedUpstreams`, or `StoredUpstreams` over SQL.
    *in_use* returns the images
    (references, or digests alone) that no retention rule may delete. What was
    pushed or told of within *grace_s* is never deleted as garbage. `space` is
    about garbage, retention and quotas.
    """

    def __init__(
        self,
        engine: Engine,
        blobs: BlobStore,
        authorizer: Authorizer,
        login_server: str,
        *,
        clock: Callable[[], float] = time.time,
        upstreams: Upstreams | None = None,
        in_use: Callable[[], Iterable[str]] = tuple,
        grace_s: float = GRACE_S,
    ) -> None:
        self._blobs, self._authorizer, self._clock = blobs, authorizer, clock
        self.login_server = login_server
        self._content = Content(engine, clock, grace_s)
        self._links = BlobLinks(self._content, blobs, clock, grace_s)
        self.space = Space(engine, blobs, clock=clock, in_use=in_use, grace_s=grace_s)
        self._listings = Listings(engine)
        self._cache = PullThrough(self._content, blobs, self._links, Marks(engine, clock), upstreams)

    def app(self) -> RegistryApp:
        """Return the ASGI app that answers `/v2/...`; it sees whole paths, wherever it is mounted."""
        return RegistryApp(
            self._authorizer,
            self.login_server,
            BlobEndpoint(self._content, self._blobs, self._cache),
            UploadEndpoint(self._content, self._blobs, self._links),
            ManifestEndpoint(self._content, self._blobs, self._cache),
            ListEndpoint(self._listings, self._cache),
            self._cache,
            clock=self._clock,
        )

    def is_pulled_through(self, repository: str) -> bool:
        """Say whether *repository* stands for one of an upstream: what is not here may come yet."""
        return self._cache.covers(repository)

    def find_upstream_trouble(self, name: str) -> str:
        """Return why the upstream *name* is left alone just now, or empty."""
        return self._cache.find_trouble(name)

    async def close(self) -> None:
        """End what goes on behind the requests: downloads from upstreams, which go on after the next start."""
        await self._cache.close()

    def find_image(self, repository: str, reference: str) -> ImageInfo | None:
        """Return what is known of the image of a tag or digest, or None."""
        return self._listings.find_image(repository, reference)

    def repositories(self, workspace: str = "") -> list[str]:
        """Return the names of repositories that hold something; with *workspace*, those below it."""
        names = self._listings.repositories()
        return [name for name in names if name.startswith(f"{workspace}/")] if workspace else names

    def tags(self, repository: str) -> list[TagInfo]:
        """Return the tags, the latest push first; raise `RepositoryNotFound`."""
        return self._listings.tags(repository)

    def delete_image(self, repository: str, reference: str) -> None:
        """Delete a tag, or a manifest by digest with its tags; raise `ManifestNotFound`."""
        if ":" in reference:
            self._content.delete_manifest(repository, Digest.parse(reference))
        else:
            self._content.delete_tag(repository, reference)

    async def collect_garbage(self, *, dry_run: bool = False) -> Report:
        """Remove what retention rules and garbage collection take away, beside pushes and pulls; see `Space`."""
        report = await self.space.collect(dry_run=dry_run)
        if not dry_run:
            await self.end_stale_uploads(self.space.grace_s)
        return report

    async def end_stale_uploads(self, older_than_s: float) -> int:
        """End the uploads that nobody added to for that long, and what broken writes left; return how many."""
        before = self._clock() - older_than_s
        ended = await self._blobs.end_stale_uploads(before)
        for upload_id in await asyncio.to_thread(self._content.uploads_started_before, before):
            try:
                await self._blobs.upload_offset(upload_id)
            except UploadNotFound:
                await asyncio.to_thread(self._content.end_upload, upload_id)
        return ended
