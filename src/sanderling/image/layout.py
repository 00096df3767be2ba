"""Write an image into a place that is not a registry, as an OCI layout: a folder that skopeo, crane and Podman read.

Source: image-spec 1.1, "OCI Image Layout".
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sanderling.blobs import BlobNotFound, FileBlobs
from sanderling.errors import Unavailable
from sanderling.image.assembly import Assembled
from sanderling.oci import Descriptor, Digest, DigestMismatch

if TYPE_CHECKING:
    from sanderling.image.supply_chain.attachments import Attachment
    from sanderling.transfer.places import Place

_AT_ONCE = 2


class DamagedLayer(Unavailable):
    """The cache holds other bytes under *digest* than it should; making the layer anew mends it."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"the cached layer {digest} is damaged; it is made anew at the next build")
        self.digest = digest


def image_blobs(image: Assembled) -> dict[Digest, int]:
    """Digest and size of every config and layer of *image*, each once."""
    return {blob.digest: blob.size for manifest in image.manifests for blob in (*manifest.layers, manifest.config)}


def write_layout(image: Assembled, blobs: FileBlobs, folder: Path, reference: str) -> None:
    """Write *image* into the OCI layout *folder*, where it is called *reference*; other images there stay.

    Raises DamagedLayer for a blob of the cache that is not what its name says, and
    Invalid when *folder* is something else. Not for use on an event loop.
    """
    from sanderling.transfer.places import (
        LayoutPlace,
    )  # brings the HTTP client: a quarter second that a build may spare

    asyncio.run(publish(image, blobs, LayoutPlace(folder), reference))


@dataclass(frozen=True, slots=True)
class Published:
    """What it took to bring an image into a place: the bytes that moved, and its *digest* there.

    The digest is another than the image's where the place keeps layers unpacked, as a docker-archive does.
    """

    digest: Digest
    sent_bytes: int


async def publish(
    image: Assembled,
    blobs: FileBlobs,
    place: "Place",
    name: str,
    told: Callable[[int], None] = lambda _: None,
    attachments: "Sequence[Attachment]" = (),
) -> Published:
    """Write *image* into *place* as *name*, verified, its manifest last; close the place.

    *told* gets the bytes of blobs that came to be there, also of those that were. *attachments* are about the
    image, and are there before the name is. Raises DamagedLayer, and what the place raises.
    """
    from sanderling.image.supply_chain.attach import push_manifests
    from sanderling.transfer import all_of

    wanted = {blob.digest: blob for manifest in image.manifests for blob in (*manifest.layers, manifest.config)}
    try:
        largest_first = sorted(wanted.values(), key=lambda blob: -blob.size)
        sent = await all_of([partial(_keep, place, blobs, blob, told) for blob in largest_first], _AT_ONCE)
        await push_manifests(place, image, name, attachments)
        others = await place.finish()
        return Published(others.get(name, image.descriptor.digest), sum(sent))
    finally:
        await place.aclose()


async def _keep(place: "Place", blobs: FileBlobs, blob: Descriptor, told: Callable[[int], None]) -> int:
    """Bring one blob; return the bytes that moved."""
    from sanderling.transfer import LengthMismatch, read_file

    if await place.has_blob(blob):
        told(blob.size)
        return 0
    through = 0

    def count(now: int) -> None:
        nonlocal through
        told(now - through)
        through = now

    try:
        path = blobs.path(blob.digest)
        return await place.push_blob(blob, partial(read_file, path), None, count)
    except (DigestMismatch, LengthMismatch, BlobNotFound) as e:
        raise DamagedLayer(blob.digest) from e
