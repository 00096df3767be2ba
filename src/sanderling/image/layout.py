"""Write an image as an OCI layout: a folder that skopeo, crane, Podman and our own engine read.

Source: image-spec 1.1, "OCI Image Layout".
"""

from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.durable import write_durably
from sanderling.errors import Invalid, Unavailable
from sanderling.image.assembly import Assembled
from sanderling.oci import Digest, DigestMismatch, Hasher, canonical_json, media_types


class DamagedLayer(Unavailable):
    """The cache holds other bytes under *digest* than it should; making the layer anew mends it."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"the cached layer {digest} is damaged; it is made anew at the next build")
        self.digest = digest


def image_blobs(image: Assembled) -> dict[Digest, int]:
    """Digest and size of every config and layer of *image*, each once."""
    return {blob.digest: blob.size for manifest in image.manifests for blob in (*manifest.layers, manifest.config)}


def write_layout(image: Assembled, blobs: FileBlobs, folder: Path, reference: str) -> None:
    """Write *image* into *folder*, where it is called *reference*; other images there are replaced in the index.

    Every blob is verified on its way. Raises DamagedLayer for one of the cache
    that is not what its name says, and Invalid when *folder* is something else.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "oci-layout").exists())):
        raise Invalid(f"{folder} is there and is no OCI layout; name another folder")
    target = folder / "blobs" / "sha256"
    target.mkdir(parents=True, exist_ok=True)
    # First, so that a folder in which a write was cut off is known again.
    write_durably(folder / "oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}), 0o644)
    for digest in image_blobs(image):
        _copy(blobs, digest, target / digest.hex)
    documents = [manifest.raw for manifest in image.manifests] + ([image.index.raw] if image.index else [])
    for raw in documents:
        write_durably(target / Digest.of(raw).hex, raw, 0o644)
    descriptor = image.descriptor.to_json()
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": reference}
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [descriptor]}
    write_durably(folder / "index.json", canonical_json(index), 0o644)


def _copy(blobs: FileBlobs, digest: Digest, target: Path) -> None:
    hasher = Hasher(digest.algorithm)
    temporary = target.with_name(f".{target.name}.part")
    try:
        with blobs.path(digest).open("rb") as source, temporary.open("wb") as file:
            while piece := source.read(1 << 20):
                hasher.update(piece)
                file.write(piece)
        if hasher.digest() != digest:
            raise DamagedLayer(digest) from DigestMismatch(expected=digest, actual=hasher.digest())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
