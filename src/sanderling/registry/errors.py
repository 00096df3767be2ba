"""What the registry refuses, by what the caller can do, and the wire code of each: one table.

The endpoints raise; `wire_of` translates.
"""

from sanderling.blobs import BlobNotFound, StoreFull, UploadBusy, UploadNotFound, WrongOffset
from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.oci import MAX_DOCUMENT_BYTES, Digest, DigestMismatch, WireError
from sanderling.registry.access.throttle import Slowed
from sanderling.registry.access.tokens import TokenExpired
from sanderling.registry.space.removals import Removal


class RepositoryNotFound(NotFound):
    """No such repository."""

    def __init__(self, name: str) -> None:
        super().__init__(f"repository {name} is not known; push to it first")
        self.name = name


class ManifestNotFound(NotFound):
    """The repository has no manifest of this tag or digest."""

    def __init__(self, repository: str, reference: str, why: str = "was it pushed?") -> None:
        super().__init__(f"manifest {repository}:{reference[:200]} is not here; {why}")
        self.repository, self.reference = repository, reference


class NameInvalid(Invalid):
    """A repository cannot have this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:300]!r} is not a repository's name: lower-case words joined by '/', at most 255 letters"
        )


class TagInvalid(Invalid):
    """A tag cannot be this."""

    def __init__(self, tag: str) -> None:
        super().__init__(f"{tag[:200]!r} is not a tag: letters, digits, '_', '.', '-', at most 128")


class DigestInvalid(Invalid):
    """A digest is missing or malformed."""


class ManifestInvalid(Invalid):
    """The manifest cannot be accepted as it is."""


class ManifestTooLarge(Invalid):
    """The manifest, or another small body, is larger than its limit."""

    def __init__(self, limit: int = MAX_DOCUMENT_BYTES) -> None:
        super().__init__(f"what is sent here has at most {limit} bytes")


class MissingReference(NotFound):
    """The manifest names content that the repository does not have."""

    def __init__(self, repository: str, digest: Digest) -> None:
        super().__init__(f"the manifest names {digest}, which {repository} does not have; push that first")
        self.repository, self.digest = repository, digest


class RangeInvalid(Invalid):
    """The part of a blob that is asked for is not there."""


class ChunkRangeInvalid(Invalid):
    """The range of a chunk cannot be understood."""


class SizeInvalid(Invalid):
    """A length does not fit the content."""


class PageInvalid(Invalid):
    """`n` is no number of results."""


class CataloguePageInvalid(PageInvalid):
    """`n` of Docker's `_catalog` is no number of results."""


class Unsupported(Invalid):
    """The registry has no such operation."""


class TokenNotFound(NotFound):
    """The workspace has no token of this name."""

    def __init__(self, workspace: str, name: str) -> None:
        super().__init__(
            f"workspace {workspace} has no registry token {name[:100]!r}; `sanderling registry token list` shows them"
        )
        self.workspace, self.name = workspace, name


class TokenExists(Conflict):
    """The workspace has a token of this name."""

    def __init__(self, workspace: str, name: str) -> None:
        super().__init__(f"workspace {workspace} has a registry token {name!r} already; delete or regenerate it")
        self.workspace, self.name = workspace, name


class NotSignedIn(Denied):
    """Nobody, or nobody known; *scope* is what a token would need."""

    def __init__(self, message: str, *, scope: str = "", wider: bool = False) -> None:
        super().__init__(message)
        self.scope, self.wider = scope, wider


class CacheReadOnly(Unsupported):
    """The repository stands for one of another registry."""

    def __init__(self, repository: str, upstream: str, registry: str) -> None:
        super().__init__(
            f"{repository} is a cache of {registry} (upstream {upstream}) and takes no pushes; push to another name"
        )
        self.repository, self.upstream, self.registry = repository, upstream, registry


class UpstreamUnavailable(Unavailable):
    """What is wanted is not here, and its upstream does not give it now."""

    def __init__(self, upstream: str, registry: str, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(
            f"upstream {upstream} ({registry}): {why}; what was pulled before is served, and this was not: "
            "try again later"
        )
        self.upstream, self.registry, self.why, self.retry_after_s = upstream, registry, why, retry_after_s


class UpstreamLimited(UpstreamUnavailable):
    """The upstream has had enough of our requests."""


class UpstreamDamaged(UpstreamUnavailable):
    """The upstream sent something else than was asked for; nothing of it is kept."""


class UpstreamRefused(Denied):
    """The upstream does not let us in, or not to this."""

    def __init__(self, upstream: str, registry: str, why: str) -> None:
        super().__init__(
            f"upstream {upstream} ({registry}): {why}; does the repository exist there, and may the user whom "
            f"`sanderling registry upstream show {upstream}` names pull it?"
        )
        self.upstream, self.registry, self.why = upstream, registry, why


class BlobBeingRemoved(Unavailable):
    """The garbage collection removes the blob's bytes, or did of late: whether they are there is to be seen."""

    def __init__(self, removal: Removal) -> None:
        super().__init__(f"blob {removal.digest} was removed as garbage at this very moment; send it again")
        self.removal = removal


class ClientGone(Unavailable):
    """The client stopped in the middle of its request."""


# The first that fits counts: subclasses before their parents.
_WIRE: tuple[tuple[type[SanderlingError], WireError, int | None], ...] = (
    (BlobNotFound, WireError.BLOB_UNKNOWN, None),
    (UploadNotFound, WireError.BLOB_UPLOAD_UNKNOWN, None),
    (RepositoryNotFound, WireError.NAME_UNKNOWN, None),
    (ManifestNotFound, WireError.MANIFEST_UNKNOWN, None),
    (MissingReference, WireError.MANIFEST_BLOB_UNKNOWN, None),
    (WrongOffset, WireError.BLOB_UPLOAD_INVALID, 416),
    (UploadBusy, WireError.BLOB_UPLOAD_INVALID, 409),
    (DigestMismatch, WireError.DIGEST_INVALID, None),
    (DigestInvalid, WireError.DIGEST_INVALID, None),
    (NameInvalid, WireError.NAME_INVALID, None),
    (TagInvalid, WireError.MANIFEST_INVALID, None),
    (ManifestInvalid, WireError.MANIFEST_INVALID, None),
    (ManifestTooLarge, WireError.SIZE_INVALID, 413),
    (RangeInvalid, WireError.SIZE_INVALID, 416),
    (ChunkRangeInvalid, WireError.BLOB_UPLOAD_INVALID, 416),
    (SizeInvalid, WireError.SIZE_INVALID, None),
    (CataloguePageInvalid, WireError.PAGINATION_NUMBER_INVALID, None),
    (PageInvalid, WireError.UNSUPPORTED, 400),
    (Unsupported, WireError.UNSUPPORTED, None),
    (NotSignedIn, WireError.UNAUTHORIZED, None),
    (TokenExpired, WireError.UNAUTHORIZED, None),
    (Slowed, WireError.TOOMANYREQUESTS, None),
    (ClientGone, WireError.BLOB_UPLOAD_INVALID, 408),
    (UpstreamLimited, WireError.TOOMANYREQUESTS, None),
    (UpstreamDamaged, WireError.UNAVAILABLE, 502),
    (NotFound, WireError.BLOB_UNKNOWN, None),
    (Conflict, WireError.BLOB_UPLOAD_INVALID, 409),
    (Invalid, WireError.UNSUPPORTED, 400),
    (Denied, WireError.DENIED, None),
    # 507 and not 503: clients show the status alone when it is 5xx, and this one says what is wrong.
    (StoreFull, WireError.UNAVAILABLE, 507),
    (Unavailable, WireError.UNAVAILABLE, None),
    (SanderlingError, WireError.UNAVAILABLE, None),
)


def wire_of(error: SanderlingError) -> tuple[WireError, int]:
    """Return the code and the HTTP status for *error*."""
    for kind, code, status in _WIRE:
        if isinstance(error, kind):
            return code, status or code.status
    raise AssertionError("the last row fits every error")
