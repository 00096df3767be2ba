"""A reference names an image in a registry: `localhost:8443/demo/digits:1`.

The grammar is that of the distribution project; the defaults are Docker's:
no registry means docker.io, one word there means library/word, neither tag nor
digest means latest.
"""

import re
from dataclasses import dataclass
from typing import Self

from sanderling.errors import Invalid
from sanderling.oci.digest import Digest

# distribution-spec 1.1, "Pulling manifests": <name> and <reference>.
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(?::[0-9]{{1,5}})?")
_MAX_NAME = 255
_MAX_TEXT = 1024


def is_repository(text: str) -> bool:
    """Say whether *text* is the name of a repository."""
    return len(text) <= _MAX_NAME and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Say whether *text* is a tag."""
    return _TAG.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's full name: registry, repository, and a tag or a digest (or both)."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference as `docker pull` would; raise `Invalid`."""
        if len(text) > _MAX_TEXT:
            raise Invalid(f"an image reference has at most {_MAX_TEXT} characters")
        name, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        head, slash, rest = name.partition("/")
        # Docker's rule: the first part is a registry when it could not be a repository of docker.io.
        if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
            registry, path = head, rest
        else:
            registry, path = "docker.io", name
        repository, colon, tag = path.partition(":")
        if registry == "index.docker.io":
            registry = "docker.io"
        if registry == "docker.io" and "/" not in repository:
            repository = f"library/{repository}"
        if not _REGISTRY.fullmatch(registry) or not is_repository(repository):
            raise Invalid(f"{text[:200]!r} is not an image reference such as localhost:8443/demo/digits:1")
        if colon and not is_tag(tag):
            raise Invalid(f"{tag[:200]!r} in {text[:200]!r} is not a tag: letters, digits, '_', '.', '-', at most 128")
        if not colon and digest is None:
            tag = "latest"
        return cls(registry, repository, tag, digest)

    @property
    def identifier(self) -> str:
        """What a registry is asked for: the digest when there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"
