"""A repository of a registry as a place."""

from collections.abc import AsyncGenerator

from sanderling.errors import Invalid
from sanderling.oci import Descriptor, Digest, media_types
from sanderling.transfer.client import RegistryClient
from sanderling.transfer.errors import ManifestNotFound
from sanderling.transfer.places.port import OpenFrom, Told


class RegistryPlace:
    """One repository, through its client."""

    only_platform = False

    def __init__(self, client: RegistryClient) -> None:
        self.client = client
        self.name = f"{client.registry}/{client.repository}"

    async def resolve(self, reference: str) -> Descriptor:
        """Return what the tag or digest points at."""
        found = await self.client.find_manifest(reference or "latest")
        if found is None:
            raise ManifestNotFound(self.client.registry, self.client.repository, reference or "latest")
        return found

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the manifest, by its digest."""
        raw, _ = await self.client.fetch_manifest(descriptor.digest)
        return raw

    def open_blob(self, descriptor: Descriptor, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the blob; a cut connection is taken up. Who receives it verifies it."""
        return self.client.stream_blob(descriptor, start, verify=False)

    async def tags(self) -> list[str]:
        """Return all tags."""
        return sorted([tag async for tag in self.client.tags()])

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """Ask the registry, or the tag that stands in for it."""
        return await self.client.referrers(digest)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Ask with HEAD."""
        return await self.client.has_blob(descriptor.digest)

    async def push_blob(self, descriptor: Descriptor, open_from: OpenFrom, mount_from: str | None, told: Told) -> int:
        """Mount or send the blob."""
        return await self.client.push_blob(descriptor.digest, descriptor.size, open_from, mount_from, told)

    async def push_manifest(self, descriptor: Descriptor, raw: bytes, tag: str | None = None) -> None:
        """Send the manifest, under its tag or its digest."""
        if descriptor.media_type not in media_types.MANIFESTS | media_types.INDEXES:
            raise Invalid(f"{descriptor.media_type!r} is not a media type of an image manifest or index")
        await self.client.push_manifest(tag or descriptor.digest, raw, descriptor.media_type)

    async def finish(self) -> dict[str, Digest]:
        """Nothing is left to do: a registry shows what it has."""
        return {}

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()
