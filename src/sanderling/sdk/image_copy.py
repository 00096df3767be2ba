"""Copy images between registries, layouts and tar files: the public names; what is slow to import is elsewhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sanderling.sdk.registry_auth import RegistryAccount

if TYPE_CHECKING:
    from sanderling.sdk.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Side:
    """How to reach one of the two places, when it is a registry.

    Attributes:
        account: The user; None looks into the files of Docker and Podman, and asks the workspace's server.
        is_plain_http: Whether it is spoken to without TLS; None does so on this machine alone, where it knows no TLS.
    """

    account: RegistryAccount | None = None
    is_plain_http: bool | None = None


@dataclass(frozen=True, slots=True)
class ImageCopy:
    """What a copy did.

    Attributes:
        source: From where.
        target: To where.
        digests: What each tag or name there points at now; an image without a name has an empty one.
        manifests: How many manifests and indexes belong to it.
        blobs: How many configs and layers, each counted once.
        total_bytes: Their size together.
        sent_blobs: How many of them were sent; the others were there.
        sent_bytes: How many bytes that were.
        mounted_blobs: How many the registry took from another repository of its own.
        seconds: How long it took.
    """

    source: str
    target: str
    digests: Mapping[str, str]
    manifests: int
    blobs: int
    total_bytes: int
    sent_blobs: int
    sent_bytes: int
    mounted_blobs: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "source": self.source,
            "target": self.target,
            "images": [{"name": name, "digest": digest} for name, digest in self.digests.items()],
            "manifests": self.manifests,
            "blobs": self.blobs,
            "totalBytes": self.total_bytes,
            "sentBlobs": self.sent_blobs,
            "sentBytes": self.sent_bytes,
            "mountedBlobs": self.mounted_blobs,
            "seconds": round(self.seconds, 3),
        }


def copy_image(
    source: str,
    target: str,
    *,
    platform: str | None = None,
    all_tags: bool = False,
    referrers: bool = False,
    from_side: Side | None = None,
    to_side: Side | None = None,
    workspace: "Workspace | None" = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageCopy:
    """Copy an image, byte for byte, with all its platforms.

    Every digest is verified on the way, and what the target has is not sent. The
    tag or name comes last: whatever ends a copy early leaves nothing that is
    named and not whole, and the same call again goes on where it was.

    Args:
        source: `host[:port]/repository[:tag|@digest]`, `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]` or
            `docker-archive:FILE[:NAME:TAG]`.
        target: Likewise. A `docker-archive` holds one platform, and its layers unpacked.
        platform: Only the image for this platform, as `linux/arm64`.
        all_tags: All tags of the source; neither side names one then.
        referrers: Also what refers to the image: signatures, SBOMs, attestations.
        from_side: How to reach the source, when it is a registry.
        to_side: How to reach the target, when it is a registry.
        workspace: The workspace that one is signed in to; None means that of the nearest config.json, if there is one.
        progress: Called with bytes done, and in all.

    Returns:
        What was done.

    Raises:
        NotFound: The source has no such image.
        Invalid: A place cannot be one, or the source's content is damaged.
        Denied: A registry wants other credentials.
        Unavailable: A registry or a disk did not do it; the same again goes on.
    """
    from sanderling.sdk.copy_run import run_copy  # slow to import, and needed only here

    return run_copy(
        source,
        target,
        platform=platform,
        all_tags=all_tags,
        referrers=referrers,
        from_side=from_side or Side(),
        to_side=to_side or Side(),
        workspace=workspace,
        progress=progress or (lambda done, total: None),
    )
