"""Bring an image of a registry into the store of layers: what a name means now, manifests, configs, layers.

    CACHE/bases/names/KEY.json   what a name meant when a registry last said so

- A name with a digest is asked for only when the store lacks something.
- A name with a tag is asked for at each build; when the registry does not answer, what it
  meant last serves, and the log says so.
- Content is in the store under its digest, or not at all.
"""

import hashlib
import json
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.durable import write_durably
from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.image.bases.pythons import BaseRefused
from sanderling.image.events import Log, Progress
from sanderling.image.keep import read_json
from sanderling.image.push_target import PushTarget
from sanderling.oci import Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_types
from sanderling.oci import parse_manifest as parse
from sanderling.transfer import Credential, Patience, RegistryClient, all_of

AT_ONCE = 4
MAX_LAYERS = 127  # what engines unpack
# Docker's names for what is the same bytes: our manifests are OCI's, and not every client takes a mixture.
LAYER_TYPES = {
    media_types.OCI_LAYER: media_types.OCI_LAYER,
    media_types.OCI_LAYER_GZIP: media_types.OCI_LAYER_GZIP,
    media_types.OCI_LAYER_ZSTD: media_types.OCI_LAYER_ZSTD,
    media_types.DOCKER_LAYER: media_types.OCI_LAYER,
    media_types.DOCKER_LAYER_GZIP: media_types.OCI_LAYER_GZIP,
}


class PlatformMissing(NotFound):
    """The image *reference* is not there for *platform*, but for *known*."""

    def __init__(self, reference: str, platform: Platform, known: Sequence[str]) -> None:
        there = f"it is there for {', '.join(known)}" if known else "it does not say for what it is"
        super().__init__(f"the base {reference} is not there for {platform}: {there}; build for those, or take another")
        self.reference, self.platform, self.known = reference, platform, tuple(known)


class BaseImages:
    """Fetches bases into *blobs*; *targets* are registries that we have credentials or certificates for."""

    def __init__(
        self,
        cache: Path,
        blobs: FileBlobs,
        log: Log,
        targets: Iterable[PushTarget] = (),
        patience: Patience | None = None,
    ) -> None:
        self._names = cache / "bases" / "names"
        self._blobs, self._log = blobs, log
        self._targets = tuple(targets)
        self._patience = patience

    async def fetch(
        self, reference: Reference, platforms: Sequence[Platform]
    ) -> tuple[Digest, dict[Platform, tuple[Manifest, ImageConfig]]]:
        """Have *reference* for *platforms* in the store; return its digest, and manifest and config for each.

        Raises PlatformMissing, BaseRefused, and what `sanderling.transfer` does.
        """
        async with AsyncExitStack() as stack:
            registry = await stack.enter_async_context(self._client(reference))
            digest = await self._pin(registry, reference)
            top = await self._manifest(registry, digest)
            found: dict[Platform, Manifest] = {}
            for platform in platforms:
                found[platform] = await self._choose(registry, reference, top, platform)
            blobs = {blob.digest: blob for m in found.values() for blob in (m.config, *m.layers)}
            await self._fetch_blobs(registry, reference, blobs)
        images = {platform: (manifest, self._config(reference, manifest)) for platform, manifest in found.items()}
        for platform, (_, config) in images.items():
            if not platform.runs(config.platform):
                raise PlatformMissing(str(reference), platform, [str(config.platform)])
        return digest, images

    def _client(self, reference: Reference) -> RegistryClient:
        target = find_target(self._targets, reference.registry)
        if target is None:
            return RegistryClient(reference.registry, reference.repository, is_plain_http=None, patience=self._patience)
        try:
            tls = ssl.create_default_context(cafile=str(target.ca)) if target.ca else None
        except (OSError, ssl.SSLError) as e:
            raise Invalid(f"the CA file {target.ca} for registry {target.registry} cannot be read: {e}") from e
        return RegistryClient(
            target.registry,
            reference.repository,
            None if target.username is None else Credential(target.username, target.password or ""),
            tls=tls,
            is_plain_http=target.plain_http or (None if target.ca is None else False),
            token=target.token,
            patience=self._patience,
            uses_proxy=target.ca is None,
        )

    async def _pin(self, registry: RegistryClient, reference: Reference) -> Digest:
        """The digest that *reference* means."""
        if reference.digest is not None:
            return reference.digest
        place = self._names / f"{hashlib.sha256(str(reference).encode()).hexdigest()}.json"
        try:
            found = await registry.find_manifest(reference.tag)
        except Unavailable as e:
            kept = (read_json(place) or {}).get("digest")
            if not isinstance(kept, str):
                raise
            self._log.warn("base", f"{e.message}. What {reference} meant last is used: {kept}")
            return Digest(kept)
        if found is None:
            raise NotFound(f"the base {reference} is not there; is its name right, and was it pushed?")
        document = {"reference": str(reference), "digest": str(found.digest)}
        write_durably(place, json.dumps(document, indent=1).encode())
        return found.digest

    async def _manifest(self, registry: RegistryClient, digest: Digest) -> Manifest | Index:
        if self._blobs.find(digest) is not None:
            raw = self._blobs.read(digest)
            if Digest.of(raw, digest.algorithm) == digest:
                return parse(raw)
        raw, media_type = await registry.fetch_manifest(str(digest))
        found = parse(raw, media_type)
        with self._blobs.writer(digest.algorithm) as writer:
            writer.write(raw)
            writer.commit(digest)
        return found

    async def _choose(
        self, registry: RegistryClient, reference: Reference, top: Manifest | Index, platform: Platform
    ) -> Manifest:
        manifest = top
        if isinstance(top, Index):
            descriptor = top.find_platform(platform)
            if descriptor is None:
                known = {str(d.platform) for d in top.manifests if d.platform and d.platform.os != "unknown"}
                raise PlatformMissing(str(reference), platform, sorted(known))
            manifest = await self._manifest(registry, descriptor.digest)
        if isinstance(manifest, Index):
            raise BaseRefused(str(reference), "it is an index of indexes; name one of the images in it")
        if manifest.config.media_type not in media_types.CONFIGS:
            raise BaseRefused(str(reference), f"it is no image but {manifest.config.media_type}")
        if len(manifest.layers) > MAX_LAYERS:
            raise BaseRefused(str(reference), f"it has {len(manifest.layers)} layers, and {MAX_LAYERS} is the limit")
        for layer in manifest.layers:
            if layer.media_type not in LAYER_TYPES:
                raise BaseRefused(str(reference), f"its layer {layer.digest} is of the kind {layer.media_type}")
        return manifest

    async def _fetch_blobs(
        self, registry: RegistryClient, reference: Reference, blobs: Mapping[Digest, Descriptor]
    ) -> None:
        missing = [blob for blob in blobs.values() if not self._has(blob)]
        if not missing:
            return
        progress = Progress(self._log, "base", str(reference), sum(blob.size for blob in missing))
        largest_first = sorted(missing, key=lambda blob: -blob.size)
        await all_of([partial(self._fetch_blob, registry, blob, progress) for blob in largest_first], AT_ONCE)
        progress.finish()

    def _has(self, blob: Descriptor) -> bool:
        info = self._blobs.find(blob.digest)
        return info is not None and info.size == blob.size

    async def _fetch_blob(self, registry: RegistryClient, blob: Descriptor, progress: Progress) -> None:
        with self._blobs.writer(blob.digest.algorithm) as writer:
            async for piece in registry.stream_blob(blob, verify=False):
                writer.write(piece)
                progress.add(len(piece))
            writer.commit(blob.digest)

    def _config(self, reference: Reference, manifest: Manifest) -> ImageConfig:
        config = ImageConfig.parse(self._blobs.read(manifest.config.digest))
        if len(config.diff_ids) != len(manifest.layers):
            counts = f"{len(manifest.layers)} layers, and its config speaks of {len(config.diff_ids)}"
            raise BaseRefused(str(reference), f"it has {counts}")
        return config


def find_target(targets: Iterable[PushTarget], registry: str) -> PushTarget | None:
    """The one of *targets* that people call *registry*, or that is at that address."""
    return next((target for target in targets if registry in (target.shown, target.registry)), None)
