"""Where an image that is built here goes: a folder, a tar file, an engine that runs, a registry.

    oci:DIR[:NAME]                  an OCI layout; other images in it stay
    oci-archive:FILE[:NAME]         the same in a tar file, made anew
    docker-archive:FILE[:NAME:TAG]  what docker load reads: one platform, made anew
    docker:[NAME:TAG]               into Docker or Podman on this machine: the platform that it runs
    HOST[:PORT]/REPOSITORY[:TAG]    a registry; only with --push, so that no misspelt folder becomes a repository

NAME is the image's own when none is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sanderling.errors import Invalid, NotFound
from sanderling.oci import Platform, Reference
from sanderling.transfer.places import Address

ENGINE = "docker"
_FORMS = "oci:DIR, oci-archive:FILE, docker-archive:FILE or docker:"


@dataclass(frozen=True, slots=True)
class Destination:
    """One place that an image goes to. *address* is None for an engine; *name* is what it is called there."""

    text: str
    name: str
    address: Address | None = None

    @property
    def reference(self) -> str:
        """The place with the image's name in it, as other programs take it: skopeo wants it for a layout."""
        return self.name if self.address is None else f"{self.address.place}:{self.name}"

    @property
    def is_single(self) -> bool:
        """Whether it holds an image for one platform alone."""
        return self.address is None or self.address.kind == "docker-archive"


def parse_output(text: str, image: str) -> Destination:
    """Read what `--output` says for the image called *image*. Raises Invalid."""
    kind, colon, rest = text.partition(":")
    if kind == ENGINE and colon and not rest.startswith("//"):
        return Destination(text, _docker_name(rest or image))
    if kind not in ("oci", "oci-archive", "docker-archive") or not colon:
        raise Invalid(f"--output {text!r} is no place for a file: write {_FORMS}; for a registry there is --push")
    address = Address.parse(text)
    if address.reference.startswith("sha256:"):
        raise Invalid(f"--output {text}: a digest cannot be chosen; give a name")
    name = address.reference or image
    return Destination(text, _docker_name(name) if kind == "docker-archive" else name, address)


def parse_push(text: str) -> Destination:
    """Read what `--push` says. Raises Invalid."""
    address = Address.parse(text)
    if address.kind != "registry":
        raise Invalid(f"--push {text!r} is no registry: write HOST[:PORT]/REPOSITORY:TAG; for files there is --output")
    if address.reference.startswith("sha"):
        raise Invalid(f"--push {text}: a digest cannot be chosen; give a tag")
    return Destination(text, address.tag or "latest", address)


def default_name(script_stem: str, pushes: Sequence[Destination]) -> str:
    """The image's name where the user gives none: that of the first registry, else the script's.

    It is in the image's labels, so nothing of this machine may be in it.
    """
    for destination in pushes:
        if destination.address is not None:
            return f"{destination.address.repository}:{destination.name}"
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in script_stem.lower()).strip("-")
    return f"{plain or 'image'}:latest"


def check_platforms(destinations: Sequence[Destination], platforms: Sequence[Platform]) -> None:
    """Refuse several platforms for a place that holds one, before anything is built."""
    for destination in destinations:
        if destination.is_single and destination.address is not None and len(platforms) > 1:
            listed = ", ".join(map(str, platforms))
            raise Invalid(
                f"{destination.address.place} holds one platform, and {len(platforms)} are to be built ({listed}): "
                "name one, or write to oci-archive:FILE"
            )


def check_places(destinations: Sequence[Destination]) -> None:
    """Refuse files and folders that cannot be written, before anything is built. Raises NotFound, Invalid."""
    for destination in destinations:
        path = destination.address.path if destination.address is not None else None
        if path is None or destination.address is None:
            continue
        if destination.address.kind != "oci":
            if path.is_dir() or not path.absolute().parent.is_dir():
                raise NotFound(f"{destination.text}: {path.absolute().parent} is no folder, or {path.name} is one")
        elif path.exists() and not (path / "oci-layout").is_file() and (not path.is_dir() or any(path.iterdir())):
            raise Invalid(f"{path} is there and is no OCI layout; name another folder")


def _docker_name(text: str) -> str:
    """*text* as NAME:TAG."""
    parsed = Reference.parse(text)
    if parsed.digest is not None:
        raise Invalid(f"{text[:200]!r}: Docker names images by NAME:TAG, not by digest")
    return text if text.endswith(f":{parsed.tag}") else f"{text}:{parsed.tag}"
