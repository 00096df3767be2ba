"""Upstreams: which repositories here stand for which repositories elsewhere. Pure.

    hub    docker.io    `hub/library/debian` here is `library/debian` at docker.io
    quay   quay.io      `quay/prometheus/node-exporter` here is `prometheus/node-exporter` there

The name of an upstream is the prefix of its repositories here; of several that
fit, the longest counts.
"""

import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field

from sanderling.errors import Invalid
from sanderling.oci import is_repository

DOCKER_HUB = "docker.io"
_DOCKER_LIBRARY = "library"
DEFAULT_TTL_S = 3600.0
MAX_TTL_S = 10 * 365 * 86400.0
_DOCKER_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_MAX_PATTERNS = 1000
_MAX_CA_CHARS = 1024 * 1024
_MAX_SECRET_CHARS = 65536


@dataclass(frozen=True, slots=True)
class Upstream:
    """A registry that is pulled through.

    name: the prefix of its repositories here (`hub`, or `demo/hub` within a workspace).
    registry: `docker.io`, `quay.io`, `host:port`.
    username, password: how we sign in there; empty for nobody.
    ttl_s: how long a tag that is here is trusted before it is asked for again.
    ca_pem: the certificates of the only authority to trust there; empty for the system's.
    is_enabled: False serves what is here and asks for nothing.
    is_mirror: it also answers clients that take us for a mirror of *registry* (`?ns=`).
    is_shared: whoever is signed in here may pull; else only who has the right to pull these repositories.
    only: patterns of repositories there (`library/debian`, `library/*`); empty allows all.
    """

    name: str
    registry: str
    username: str = ""
    password: str = field(default="", repr=False)
    ttl_s: float = DEFAULT_TTL_S
    is_plain_http: bool = False
    ca_pem: str = field(default="", repr=False)
    is_enabled: bool = True
    is_mirror: bool = False
    is_shared: bool = False
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_repository(self.name) or len(self.name) > 200:
            raise Invalid(
                f"{self.name[:100]!r} cannot be an upstream's name: it begins the names of repositories here, "
                "so lower-case words joined by '/' are expected, such as hub or docker.io"
            )
        if not is_registry(self.registry):
            raise Invalid(
                f"{self.registry[:100]!r} is no registry: host or host:port is expected, without https:// and path"
            )
        if not 0 <= self.ttl_s <= MAX_TTL_S:
            raise Invalid(f"upstream {self.name}: a tag is trusted for 0 seconds to ten years, not {self.ttl_s}")
        if bool(self.username) != bool(self.password) or ":" in self.username:
            raise Invalid(f"upstream {self.name}: give a user name (without ':') and a password, or neither")
        if len(self.username) + len(self.password) > _MAX_SECRET_CHARS or len(self.ca_pem) > _MAX_CA_CHARS:
            raise Invalid(f"upstream {self.name}: the credentials or the certificates are too long")
        if self.ca_pem and self.is_plain_http:
            raise Invalid(f"upstream {self.name}: plain HTTP has no certificates; leave out one of the two")
        if len(self.only) > _MAX_PATTERNS:
            raise Invalid(f"upstream {self.name}: at most {_MAX_PATTERNS} patterns of repositories")
        for pattern in self.only:
            if not is_repository(pattern.removesuffix("/*")):
                raise Invalid(f"upstream {self.name}: {pattern[:100]!r} is no pattern: name or name/* is expected")

    def find_remote(self, repository: str) -> str | None:
        """Return what *repository* here is called there; None when it is not this upstream's."""
        rest = repository.removeprefix(f"{self.name}/")
        if rest == repository:
            return None
        # Docker's short names: debian is library/debian there, and at no other registry.
        return f"{_DOCKER_LIBRARY}/{rest}" if self.is_docker_hub and "/" not in rest else rest

    def takes(self, first: str) -> bool:
        """Say whether what begins with *first* here is this upstream's, so that nobody else may have the name."""
        return first == self.name or (self.is_mirror and self.is_docker_hub and first == _DOCKER_LIBRARY)

    def allows(self, remote: str) -> bool:
        """Say whether *remote* may be pulled from there."""
        return not self.only or any(_covers(pattern, remote) for pattern in self.only)

    @property
    def is_docker_hub(self) -> bool:
        """Whether this is Docker's own registry."""
        return self.registry.lower() in _DOCKER_NAMES

    def stands_for(self, namespace: str) -> bool:
        """Say whether the registry that a client calls *namespace* is this one."""
        ours = DOCKER_HUB if self.is_docker_hub else self.registry.lower()
        theirs = DOCKER_HUB if namespace.lower() in _DOCKER_NAMES else namespace.lower()
        return ours == theirs

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what to trust there, None for what the system does; raise `Invalid` when it is no certificate."""
        if not self.ca_pem:
            return None
        try:
            return ssl.create_default_context(cadata=self.ca_pem)
        except (ssl.SSLError, ValueError) as e:
            raise Invalid(f"upstream {self.name}: the CA file holds no certificate that can be read (PEM)") from e


def find_upstream(upstreams: Iterable[Upstream], repository: str) -> tuple[Upstream, str] | None:
    """Return the upstream of *repository* and its name there; the longest prefix counts."""
    fitting = [(one, remote) for one in upstreams if (remote := one.find_remote(repository)) is not None]
    return max(fitting, key=lambda pair: len(pair[0].name), default=None)


def find_mirrored(upstreams: Iterable[Upstream], repository: str, namespace: str) -> str | None:
    """Return the name here of *repository* for a client that takes us for a mirror, or None.

    containerd names the registry that it means (`?ns=docker.io`). dockerd names
    none and mirrors Docker's registry only: its `library/...` can be nobody else's.
    """
    for upstream in upstreams:
        if not upstream.is_mirror:
            continue
        is_docker_s = upstream.is_docker_hub and repository.startswith(f"{_DOCKER_LIBRARY}/")
        if upstream.stands_for(namespace) if namespace else is_docker_s:
            return f"{upstream.name}/{repository}"
    return None


def is_registry(text: str) -> bool:
    """Say whether *text* is host or host:port."""
    found = _REGISTRY.fullmatch(text)
    return found is not None and (found[1] is None or 0 < int(found[1]) <= 65535)


def _covers(pattern: str, repository: str) -> bool:
    if pattern.endswith("/*"):
        return repository.startswith(pattern[:-1])
    return repository == pattern
