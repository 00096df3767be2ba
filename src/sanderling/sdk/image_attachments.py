"""What is told about an image beside it: lock, bill of materials, provenance, signatures. The public names.

What is slow to import is elsewhere, and imported when it is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanderling.errors import SanderlingError
from sanderling.sdk.image_copy import Side

if TYPE_CHECKING:
    from sanderling.sdk.workspace import Workspace

KINDS = ("lock", "sbom", "provenance")


class NotVerified(SanderlingError):
    """No signature of the image was made with the key."""


@dataclass(frozen=True, slots=True)
class ImageAttachment:
    """A manifest about an image.

    Attributes:
        kind: lock, sbom, provenance, signature, attestation, or other.
        artifact_type: What it says it is, as a media type.
        digest: Its own digest.
        subject: The digest of what it is about.
        platform: Of its subject, as `linux/arm64`; None for what is about the whole image.
        size_bytes: The size of its content.
        predicate_type: Of an attestation, as it says itself.
    """

    kind: str
    artifact_type: str
    digest: str
    subject: str
    platform: str | None
    size_bytes: int
    predicate_type: str | None

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "kind": self.kind,
            "artifactType": self.artifact_type,
            "digest": self.digest,
            "subject": self.subject,
            "platform": self.platform,
            "sizeBytes": self.size_bytes,
            "predicateType": self.predicate_type,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """An image whose signature was made with the key.

    Attributes:
        reference: The image as it was named.
        digest: Its digest: what the signature is about.
        key_id: The key, as sigstore calls it.
        signed_for: The repositories that signatures name; a copy keeps the name of where it was signed.
        predicates: The types of the attestations that were made with the key, too.
    """

    reference: str
    digest: str
    key_id: str
    signed_for: Sequence[str] = field(default_factory=tuple)
    predicates: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "keyId": self.key_id,
            "signedFor": list(self.signed_for),
            "predicates": list(self.predicates),
        }


def list_attachments(
    reference: str, *, side: Side | None = None, workspace: "Workspace | None" = None
) -> Sequence[ImageAttachment]:
    """List what is told about an image and about each of its platforms.

    Args:
        reference: As `copy_image` takes it: a registry's, or `oci:DIR`.
        side: How to reach the registry.
        workspace: The workspace that one is signed in to; None means that of the nearest config.json.

    Returns:
        The attachments, those of the whole image first.

    Raises:
        NotFound: There is no such image.
        Denied: The registry wants other credentials.
        Unavailable: The registry cannot be reached.
    """
    from sanderling.sdk.attachments_run import run_list

    return run_list(reference, side or Side(), workspace)


def read_attachment(
    reference: str,
    kind: str,
    *,
    platform: str | None = None,
    title: str | None = None,
    side: Side | None = None,
    workspace: "Workspace | None" = None,
) -> bytes:
    """Read one document about an image. Nothing is verified but its digest; see `verify_image`.

    Args:
        reference: As `copy_image` takes it.
        kind: lock, sbom or provenance. A lock is that of all platforms, unless one is named.
        platform: As `linux/arm64`; needed for the sbom of an image for several.
        title: The name of the file inside, as `pylock.toml`; None means the first.
        side: How to reach the registry.
        workspace: As in `list_attachments`.

    Returns:
        The document as it is stored; of a provenance, the statement inside its envelope.

    Raises:
        NotFound: There is no such image, or nothing of the kind.
        Invalid: The image is for several platforms, and none is named.
    """
    from sanderling.sdk.attachments_run import run_read

    return run_read(reference, kind, platform, title, side or Side(), workspace)


def verify_image(
    reference: str, key: bytes | Path, *, side: Side | None = None, workspace: "Workspace | None" = None
) -> Verification:
    """Check that an image was signed with a key, in one of the forms that cosign knows.

    Args:
        reference: As `copy_image` takes it.
        key: The public key in PEM, or the file it is in.
        side: How to reach the registry.
        workspace: As in `list_attachments`.

    Returns:
        The digest that is signed. Deploy that, and not the tag: a tag may change.

    Raises:
        NotVerified: No signature is by this key.
        NotFound: There is no such image.
        Invalid: This is no key.
    """
    from sanderling.sdk.attachments_run import run_verify

    return run_verify(reference, key, side or Side(), workspace)
