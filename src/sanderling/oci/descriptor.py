"""A descriptor points at content: media type, digest, size, and what is known of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sanderling.errors import Invalid
from sanderling.oci.digest import Digest
from sanderling.oci.document import object_field, refuse_other_case, text_field, text_list, text_map

# RFC 6838, section 4.2; parameters are not allowed in a descriptor.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_MAX_SIZE = 2**63 - 1
_PLATFORM_KNOWN = frozenset({"os", "architecture", "variant"})

# Machines name themselves in more ways than images do.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
}


def check_media_type(text: str, what: str) -> str:
    """Return *text* when it is a media type (RFC 6838), else raise `Invalid`."""
    if not _MEDIA_TYPE.fullmatch(text):
        raise Invalid(f"{text[:100]!r} is not a media type for the {what}")
    return text


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, in Go's words: `linux/amd64`, `linux/arm/v7`."""

    os: str
    architecture: str
    variant: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)  # os.version, os.features, what comes later

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/architecture[/variant]`; the names uname uses are understood too."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", part) for part in parts):
            raise Invalid(f"{text[:100]!r} is not a platform: os/architecture is expected, such as linux/arm64")
        os, architecture = parts[0].lower(), parts[1].lower()
        return cls(os, _ARCHITECTURES.get(architecture, architecture), parts[2].lower() if len(parts) == 3 else "")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Read the `platform` object of a descriptor; raise `Invalid`."""
        refuse_other_case(fields, _PLATFORM_KNOWN, "platform")
        return cls(
            os=text_field(fields, "os", "platform"),
            architecture=text_field(fields, "architecture", "platform"),
            variant=text_field(fields, "variant", "platform"),
            extra={name: value for name, value in fields.items() if name not in _PLATFORM_KNOWN},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the `platform` object of a descriptor."""
        document: dict[str, Any] = {**self.extra, "os": self.os, "architecture": self.architecture}
        if self.variant:
            document["variant"] = self.variant
        return document

    def runs(self, other: "Platform") -> bool:
        """Say whether a machine of this platform runs images of *other*.

        arm64 is arm64/v8 by definition; a machine or an image that does not
        name its variant takes what it is given.
        """
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        implied = {"arm64": "v8"}.get(self.architecture, "")
        mine, theirs = self.variant or implied, other.variant or implied
        return not mine or not theirs or mine == theirs

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


_KNOWN = frozenset({"mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType"})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What image-spec 1.1 calls a content descriptor; unknown fields are in `extra`."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    artifact_type: str = ""
    urls: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_json(cls, fields: object) -> Self:
        """Read a descriptor object; raise `Invalid`."""
        if not isinstance(fields, dict):
            raise Invalid("a descriptor is not an object")
        refuse_other_case(fields, _KNOWN, "descriptor")
        size = fields.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
            raise Invalid("a descriptor needs 'size', a whole number of bytes")
        platform = object_field(fields, "platform", "descriptor")
        artifact_type = text_field(fields, "artifactType", "descriptor")
        return cls(
            media_type=check_media_type(text_field(fields, "mediaType", "descriptor", required=True), "descriptor"),
            digest=Digest.parse(text_field(fields, "digest", "descriptor", required=True)),
            size=size,
            annotations=text_map(fields, "annotations", "descriptor"),
            platform=None if platform is None else Platform.from_json(platform),
            artifact_type=check_media_type(artifact_type, "descriptor") if artifact_type else "",
            urls=text_list(fields, "urls", "descriptor"),
            extra={name: value for name, value in fields.items() if name not in _KNOWN},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor object; empty optional fields are left out."""
        document: dict[str, Any] = {
            **self.extra,
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform is not None:
            document["platform"] = self.platform.to_json()
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.urls:
            document["urls"] = list(self.urls)
        return document
