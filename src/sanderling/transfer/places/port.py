"""What every place can do: a registry's repository, a layout on disk, a tar file.

The idea is oras-go's: fetch, push, exists, resolve, tag; copying is made of these.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from sanderling.oci import Descriptor, Digest

OpenFrom = Callable[[int], AsyncGenerator[bytes, None]]
Told = Callable[[int], None]


class Place(Protocol):
    """Images and the content they are made of. Close it with `aclose`, in any case.

    Writing: blobs in any order and at once, then the manifests that name them,
    then their tags; a file that is a whole, such as an archive, is there only
    after `finish`. Every write is verified. All methods raise `sanderling.errors`.
    """

    @property
    def name(self) -> str:
        """What people call it, as `oci:images` or `localhost:8443/demo/digits`."""

    @property
    def only_platform(self) -> bool:
        """Whether it holds an image for one platform alone, and no index."""

    async def resolve(self, reference: str) -> Descriptor:
        """Return what the tag, name or digest points at; empty means the only image here. Raises NotFound."""

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the manifest or index as it is, verified. Raises NotFound, DigestMismatch."""

    def open_blob(self, descriptor: Descriptor, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob from *start*; who receives it verifies it. Raises NotFound."""

    async def tags(self) -> list[str]:
        """Return the tags or names here, sorted."""

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """Return the manifests whose subject is *digest*."""

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether the blob is here and whole."""

    async def push_blob(self, descriptor: Descriptor, open_from: OpenFrom, mount_from: str | None, told: Told) -> int:
        """Keep a blob; return the bytes that were moved for it.

        *open_from* opens the content at an offset. *mount_from* is a repository
        of the same registry that has it. *told* gets how much of it is here.
        Raises DigestMismatch or LengthMismatch, and keeps nothing then.
        """

    async def push_manifest(self, descriptor: Descriptor, raw: bytes, tag: str | None = None) -> None:
        """Keep a manifest or index, whose content is here, and let *tag* point at it.

        An empty *tag* means that it stands for itself, without a name; None that it is part of another.
        """

    async def finish(self) -> dict[str, Digest]:
        """Make what was pushed last, and seen by others; nothing more is pushed.

        Returns the names whose image has another digest here, because the form of the place is another.
        """

    async def aclose(self) -> None:
        """Let go. What was not finished is not seen; what can be taken up later stays."""
