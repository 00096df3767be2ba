"""Fetches an image whole and verified before anybody may run it.

    tag ──▶ index? ──▶ this machine's manifest ──▶ config, layers ──▶ tags.json says it is here

Rules: what is held is not asked for; a blob that was cut goes on by range;
every digest is verified (diffIDs when layers are unpacked); a size is checked
before it is fetched and while it comes. The reference is remembered last, so an
image is never half there.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

from sanderling.edge import own_registry
from sanderling.edge.content import ContentStore, Partial
from sanderling.edge.engines import HeldImage
from sanderling.edge.own_registry import OwnRegistry
from sanderling.edge.trouble import why_unreachable
from sanderling.errors import Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.iot import RegistryCredential
from sanderling.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    media_types,
    parse_manifest,
)
from sanderling.transfer import (
    BlobNotFound,
    Credential,
    NotTrusted,
    Patience,
    RegistryClient,
    RightMissing,
    SignInNeeded,
    SignInRefused,
    all_of,
)

_log = logging.getLogger(__name__)

MAX_IMAGE_BYTES = 16 * 1024**3
_MAX_CONFIG_BYTES = 4 * 1024**2
_AT_ONCE = 3
_TRIES = 3
_PATIENCE = Patience(1)  # the agent comes again by itself, later and later, and tells meanwhile
_PIECE_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is."""

    done_bytes: int = 0
    total_bytes: int = 0


class _Tally:
    """Counts what a pull has, blob by blob, and tells of it."""

    def __init__(self, total_bytes: int, tell: Callable[[Progress], None]) -> None:
        self._total_bytes, self._tell = total_bytes, tell
        self._have: dict[Digest, int] = {}

    def set(self, digest: Digest, size_bytes: int) -> None:
        """Note that *size_bytes* of a blob are on the disk."""
        self._have[digest] = size_bytes
        self._tell(Progress(sum(self._have.values()), self._total_bytes))


class Puller:
    """Pulls images into a content store. Two pulls that need the same blob fetch it once."""

    def __init__(
        self,
        content: ContentStore,
        platform: Platform,
        tls: ssl.SSLContext,
        *,
        plain_http: Sequence[str] = (),
        max_image_bytes: int = MAX_IMAGE_BYTES,
        own_registry: OwnRegistry | None = None,
    ) -> None:
        """*plain_http* are registries (`host:port`) that are spoken to without TLS.

        *own_registry* knows the credential for the hub's registry, for manifests that have none for it.
        """
        self._content = content
        self._platform = platform
        self._tls = tls
        self._plain_http = frozenset(plain_http)
        self._max_image_bytes = max_image_bytes
        self._own_registry = own_registry
        self._fetching: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    async def fetch(
        self,
        image: str,
        credentials: Sequence[RegistryCredential],
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> HeldImage:
        """Return *image*, fetched if it is not held.

        Raises `Invalid`, `NotFound` and `Denied` with messages for the user,
        `Unavailable` when trying again may help; what has come stays.
        """
        held = await asyncio.to_thread(self._content.find_image, image)
        if held is not None:
            return held
        reference = Reference.parse(image)
        credential = find_credential(reference.registry, credentials)
        if credential is None and self._own_registry is not None:
            credential = await self._own_registry.find_credential(reference.registry)
        try:
            manifest = await self._fetch_all(reference, credential, progress)
        except SanderlingError as e:
            raise _with_way_out(e, reference, credential) from e
        await asyncio.to_thread(self._content.put, manifest.raw, manifest.digest)
        await asyncio.to_thread(self._content.remember, image, manifest.digest)
        held = await asyncio.to_thread(self._content.find_image, image)
        if held is None:
            raise Unavailable(f"image {image}: its content is gone from this device; it is fetched again")
        return held

    async def _fetch_all(
        self, reference: Reference, credential: RegistryCredential | None, progress: Callable[[Progress], None]
    ) -> Manifest:
        """Fetch this device's manifest and all its blobs; the manifest itself is not kept yet."""
        async with RegistryClient(
            reference.registry,
            reference.repository,
            None if credential is None else Credential(credential.username, credential.password),
            tls=self._tls,
            is_plain_http=reference.registry in self._plain_http,
            patience=_PATIENCE,
        ) as client:
            manifest = await self._manifest(client, reference)
            self._check_size(reference, manifest)
            sizes = {blob.digest: blob.size for blob in _blobs(manifest)}
            tally = _Tally(sum(sizes.values()), progress)
            await self._blob(client, manifest.config, tally)
            await asyncio.to_thread(self._check_config, reference, manifest)
            await all_of([partial(self._blob, client, layer, tally) for layer in _blobs(manifest)[1:]], _AT_ONCE)
        return manifest

    async def _manifest(self, client: RegistryClient, reference: Reference) -> Manifest:
        raw, media_type = await client.fetch_manifest(reference.identifier)
        parsed = parse_manifest(raw, media_type)
        if isinstance(parsed, Manifest):
            return parsed
        chosen = self._choose(reference, parsed)
        raw, media_type = await client.fetch_manifest(chosen.digest)
        manifest = parse_manifest(raw, media_type)
        if not isinstance(manifest, Manifest):
            raise Invalid(f"image {reference}: its index names an index where a manifest should be")
        return manifest

    def _choose(self, reference: Reference, index: Index) -> Descriptor:
        chosen = index.find_platform(self._platform)
        if chosen is None:
            have = ", ".join(sorted({str(d.platform) for d in index.manifests if d.platform})) or "none"
            raise Invalid(
                f"image {reference} is not for this device ({self._platform}): it was built for {have}; "
                f"build it for {self._platform} too"
            )
        return chosen

    def _check_size(self, reference: Reference, manifest: Manifest) -> None:
        size = sum(blob.size for blob in _blobs(manifest))
        if size > self._max_image_bytes or manifest.config.size > _MAX_CONFIG_BYTES:
            raise Invalid(f"image {reference} has {size} bytes; {self._max_image_bytes} is this device's limit")

    def _check_config(self, reference: Reference, manifest: Manifest) -> None:
        if manifest.config.media_type not in media_types.CONFIGS:
            raise Invalid(f"{reference} is no image that runs: its config is {manifest.config.media_type!r}")
        config = ImageConfig.parse(self._content.path(manifest.config.digest).read_bytes())
        if not self._platform.runs(config.platform):
            raise Invalid(f"image {reference} is for {config.platform}, and this device is {self._platform}")
        if len(config.diff_ids) != len(manifest.layers):
            raise Invalid(f"image {reference}: its config and manifest differ in the number of layers")

    async def _blob(self, client: RegistryClient, blob: Descriptor, tally: _Tally) -> None:
        """Fetch one blob; a cut connection goes on where it was, as long as each brings something new."""
        lock = self._fetching.setdefault(blob.digest, asyncio.Lock())
        async with lock:
            if not await asyncio.to_thread(self._content.has, blob.digest):
                await self._blob_with_tries(client, blob, tally)
            tally.set(blob.digest, blob.size)

    async def _blob_with_tries(self, client: RegistryClient, blob: Descriptor, tally: _Tally) -> None:
        failures, best = 0, 0
        while True:
            coming = self._content.partial(blob.digest)
            try:
                await self._blob_once(client, blob, coming, tally)
            except Unavailable as e:
                failures = 0 if coming.size_bytes > best else failures + 1
                best = max(best, coming.size_bytes)
                if failures >= _TRIES:
                    raise
                _log.info("the pull of %s was cut and goes on: %s", blob.digest, e)
            else:
                return

    async def _blob_once(self, client: RegistryClient, blob: Descriptor, coming: Partial, tally: _Tally) -> None:
        try:
            have = await asyncio.to_thread(coming.open)
            if have > blob.size:
                await asyncio.to_thread(coming.restart)
                have = 0
            tally.set(blob.digest, have)
            if have < blob.size:
                async with client.open_blob(blob.digest, have) as (begins, pieces):
                    if begins != have:
                        await asyncio.to_thread(coming.restart)
                        tally.set(blob.digest, 0)
                    await self._receive(pieces, coming, blob, tally)
            if coming.size_bytes < blob.size:
                raise Unavailable(f"the registry's content {blob.digest} was cut at {coming.size_bytes} bytes")
            await asyncio.to_thread(coming.finish)
        except OSError as e:
            raise Unavailable(f"the device cannot keep {blob.digest}: {e.strerror or e}") from e
        finally:
            coming.close()

    async def _receive(
        self,
        pieces: AsyncIterator[bytes],
        coming: Partial,
        blob: Descriptor,
        tally: _Tally,
    ) -> None:
        """Write what comes, in larger pieces than it comes in; what came before a cut is written too."""
        waiting = bytearray()

        async def write() -> None:
            await asyncio.to_thread(coming.write, bytes(waiting))
            tally.set(blob.digest, coming.size_bytes)
            waiting.clear()

        try:
            async for piece in pieces:
                if coming.size_bytes + len(waiting) + len(piece) > blob.size:
                    raise Invalid(f"the registry sends more than the {blob.size} bytes of {blob.digest}")
                waiting += piece
                if len(waiting) >= _PIECE_BYTES:
                    await write()
        finally:
            if waiting:
                await write()


def find_credential(registry: str, credentials: Sequence[RegistryCredential]) -> RegistryCredential | None:
    """Return the first credential whose address is *registry*; a scheme or path in the address does not count."""
    for credential in credentials:
        address = credential.address.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if address.lower() == registry.lower():
            return credential
    return None


def _with_way_out(
    error: SanderlingError, reference: Reference, credential: RegistryCredential | None
) -> SanderlingError:
    """Return *error* in words that lead on: what to change in the deployment manifest, or on the device."""
    registry = reference.registry
    match error:
        case SignInNeeded():
            return Denied(
                f"the registry {registry} asks for credentials for {reference}, and the manifest has none: "
                f"add registryCredentials with the address {registry}"
            )
        case SignInRefused() | RightMissing() if credential is not None and credential.name == own_registry.NAME:
            return Denied(
                f"the registry {registry} does not let this device pull {reference}: "
                "is the device enabled, and was its key regenerated?"
            )
        case SignInRefused() if credential is not None:
            return Denied(
                f"the registry {registry} refused the credentials of user {credential.username!r} for "
                f"{reference}: look at the user name and password in the manifest's registryCredentials"
            )
        case BlobNotFound():
            return NotFound(f"image {reference}: the registry lacks its content {error.digest}; push it again")
        case NotTrusted():
            cause = error.__cause__ or error
            return Unavailable(f"the registry {registry} cannot be reached: {why_unreachable(cause)}")
        case _:
            return error


def explain(module: str, image: str, error: SanderlingError) -> str:
    """Return what went wrong with a module's image, for its status."""
    text = error.message
    if isinstance(error, NotFound) or str(image) in text:
        return f"module {module!r}: {text}"
    return f"module {module!r}: image {image}: {text}"


def _blobs(manifest: Manifest) -> list[Descriptor]:
    """Return config and layers, each blob once."""
    return list({blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values())
