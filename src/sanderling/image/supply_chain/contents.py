"""What a build used for one platform: packages and files, each with the sha256 of what was fetched or given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit, urlunsplit

from sanderling.image.debian.packages import Package
from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.resolve import Wheel
from sanderling.oci import Platform


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files of one kind: "model" (with name and version), "application" or "scoring". *files*: sha256 by path."""

    kind: str
    name: str
    version: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CondaPackage:
    """One conda package; *url* has no credentials."""

    name: str
    version: str
    build: str
    subdir: str
    channel: str
    url: str
    sha256: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What the image for *platform* holds.

    debian: the packages of a Debian base, *suite* its name ("bookworm"); or base: the reference, by
    digest, of the image that it stands on. wheels: each with its sha256. licences: by the sha256 of a
    package's file: one SPDX expression, or names as the authors put them.
    """

    platform: Platform
    python: Interpreter
    debian: tuple[Package, ...] = ()
    suite: str = ""
    base: str | None = None
    conda: tuple[CondaPackage, ...] = ()
    wheels: tuple[Wheel, ...] = ()
    files: tuple[FileGroup, ...] = ()
    licences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def locked_wheels(wheels: Sequence[Wheel], digests: Mapping[str, str]) -> tuple[Wheel, ...]:
    """Return *wheels* by name, each with the sha256 it has (*digests* by file name) and a URL that may be shown."""
    return tuple(
        replace(wheel, sha256=digests.get(wheel.file_name, wheel.sha256))
        for wheel in sorted(wheels, key=lambda wheel: (wheel.name, wheel.file_name))
    )


def plain_url(url: str) -> str:
    """Return *url* as it may be shown: without user, password, query and fragment; empty when it is of this machine.

    A query may hold a token, and who fetches from such an index must name it anew anyway.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not host:
        return ""
    return urlunsplit((parts.scheme, host, parts.path.partition(";")[0], "", ""))


def debian_architecture(package: Package) -> str:
    """Return the architecture that the package's own record names: amd64, arm64, all."""
    return control_field(package, "Architecture")


def control_field(package: Package, name: str) -> str:
    """Return one field of the package's record, or nothing."""
    for line in package.control.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.lower() == name.lower():
            return value.strip()
    return ""
