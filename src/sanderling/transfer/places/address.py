"""What a user writes for a place and an image in it.

    localhost:8443/demo/digits:1      a registry, as `docker pull` reads it; docker://... is the same
    localhost:8443/demo/digits@sha256:...
    oci:DIR[:NAME]                    a layout; DIR ends at the first colon, NAME may hold more; also oci:DIR@sha256:...
    oci-archive:FILE[:NAME]           a layout in a tar file
    docker-archive:FILE[:NAME:TAG]    what docker save writes and docker load reads

The forms are those of skopeo and podman.
"""

from dataclasses import dataclass
from pathlib import Path

from sanderling.errors import Invalid
from sanderling.oci import Digest, Reference

_FILES = ("oci", "oci-archive", "docker-archive")


@dataclass(frozen=True, slots=True)
class Address:
    """A place, and what is meant in it: *reference* is a tag, name or digest, or empty."""

    kind: str
    text: str
    reference: str = ""
    path: Path | None = None
    registry: str = ""
    repository: str = ""
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read *text*; raise `Invalid`."""
        kind, colon, rest = text.partition(":")
        if colon and kind in _FILES:
            return _file(kind, text, rest)
        if "://" in text and not text.startswith("docker://"):
            raise Invalid(
                f"{text[:200]!r} is no place for images: leave the scheme away, as in localhost:8443/demo/x:1"
            )
        name = text.removeprefix("docker://")
        if name.startswith(("./", "../", "/", "~")):
            raise Invalid(
                f"{text[:200]!r} looks like a path: write oci:{name} for a folder, oci-archive:{name} for a tar"
            )
        parsed = Reference.parse(name)
        last = name.partition("@")[0].rpartition("/")[2]
        named = parsed.digest or (parsed.tag if ":" in last else "")
        return cls("registry", text, str(named), None, parsed.registry, parsed.repository, parsed.tag if named else "")

    @property
    def place(self) -> str:
        """The place alone, for people."""
        return f"{self.registry}/{self.repository}" if self.kind == "registry" else f"{self.kind}:{self.path}"


def _file(kind: str, text: str, rest: str) -> Address:
    path, at, digest = rest.partition("@sha256:")
    if at and ":" not in path:
        reference = str(Digest.parse(f"sha256:{digest}"))
    else:
        path, _, reference = rest.partition(":")
    if not path or "\0" in text:
        raise Invalid(f"{text[:200]!r} names no path: {kind}:PATH[:NAME] is expected")
    if len(reference) > 1024 or not all(c.isprintable() and c != " " for c in reference):
        raise Invalid(f"{reference[:200]!r} is no name for an image in {kind}:{path}")
    return Address(kind, text, reference, Path(path))
