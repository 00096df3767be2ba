"""What a collection removed, or would remove."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What it is that goes."""

    TAG = "tag"
    MANIFEST = "manifest"
    LINK = "link"  # a repository lets go of a blob
    BLOB = "blob"  # bytes in the store


@dataclass(frozen=True, slots=True)
class Gone:
    """One thing that goes. `size_bytes` is what that frees: nothing for a tag or a link."""

    kind: Kind
    repository: str  # empty for the bytes of a blob
    reference: str
    why: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """A collection. *problem*: why a part of it was left out, or nothing."""

    is_dry_run: bool
    gone: tuple[Gone, ...]
    stale_uploads: int
    seconds: float
    problem: str = ""

    @property
    def freed_bytes(self) -> int:
        """How many bytes are free after it: a blob of several repositories counts once, when its last link goes."""
        return sum(one.size_bytes for one in self.gone)
