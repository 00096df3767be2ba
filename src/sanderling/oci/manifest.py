"""Manifests and indexes: immutable views on the bytes that are hashed.

Two readers must not see two images in one digest. Refused are therefore a
document that says it is one thing and has the fields of the other
(CVE-2021-41190), a key twice in one object, and a key that is one of ours but
for its case: Go's encoding/json takes `Layers` for `layers`, others do not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sanderling.errors import Invalid
from sanderling.oci import media_types
from sanderling.oci.descriptor import Descriptor, Platform, check_media_type
from sanderling.oci.digest import Digest
from sanderling.oci.document import (
    canonical_json,
    object_field,
    parse_document,
    refuse_other_case,
    text_field,
    text_map,
)

_MAX_DESCRIPTORS = 10_000
_FIELDS = frozenset(
    {"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"}
)


def _descriptors(fields: dict[str, Any], name: str, what: str) -> tuple[Descriptor, ...]:
    values = fields.get(name, "missing")
    if values is None:  # how Go writes a list that was never filled
        return ()
    if not isinstance(values, list):
        raise Invalid(f"the {what} needs the list {name!r}")
    if len(values) > _MAX_DESCRIPTORS:
        raise Invalid(f"the {what} has {len(values)} {name}; {_MAX_DESCRIPTORS} is the limit")
    return tuple(Descriptor.from_json(value) for value in values)


def _subject(fields: dict[str, Any], what: str) -> Descriptor | None:
    value = object_field(fields, "subject", what)
    return None if value is None else Descriptor.from_json(value)


def _artifact_type(fields: dict[str, Any], what: str) -> str:
    value = text_field(fields, "artifactType", what)
    return check_media_type(value, what) if value else ""


def _media_type(fields: dict[str, Any], what: str, allowed: frozenset[str], default: str) -> str:
    if fields.get("schemaVersion") != 2 or isinstance(fields.get("schemaVersion"), bool):
        raise Invalid(f"the {what} needs schemaVersion 2; older images must be converted by their client")
    media_type = text_field(fields, "mediaType", what) or default
    if media_type not in allowed:
        raise Invalid(f"{media_type[:100]!r} is not a media type of an image {what}")
    return media_type


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform, or an artifact: a config and layers."""

    raw: bytes = field(repr=False)
    digest: Digest
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, raw: bytes, media_type: str = media_types.OCI_MANIFEST) -> Self:
        """Read a manifest (OCI, or Docker schema 2); raise `Invalid`.

        *media_type* counts when the document does not name its own.
        """
        return cls._read(raw, parse_document(raw, "manifest"), media_type)

    @classmethod
    def _read(cls, raw: bytes, fields: dict[str, Any], media_type: str) -> Self:
        refuse_other_case(fields, _FIELDS, "manifest")
        if "manifests" in fields:
            raise Invalid("the manifest has 'manifests' too: it could be read as an index")
        return cls(
            raw=raw,
            digest=Digest.of(raw),
            media_type=_media_type(fields, "manifest", media_types.MANIFESTS, media_type),
            config=Descriptor.from_json(fields.get("config")),
            layers=_descriptors(fields, "layers", "manifest"),
            subject=_subject(fields, "manifest"),
            artifact_type=_artifact_type(fields, "manifest"),
            annotations=text_map(fields, "annotations", "manifest"),
        )

    @classmethod
    def build(
        cls,
        config: Descriptor,
        layers: Iterable[Descriptor],
        annotations: Mapping[str, str] | None = None,
        *,
        artifact_type: str = "",
        subject: Descriptor | None = None,
    ) -> Self:
        """Return an OCI manifest in canonical JSON."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        if artifact_type:
            document["artifactType"] = artifact_type
        if subject is not None:
            document["subject"] = subject.to_json()
        return cls.parse(canonical_json(document))

    def descriptor(self, platform: Platform | None = None) -> Descriptor:
        """Return the descriptor that points at this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.raw), platform=platform)

    @property
    def total_size_bytes(self) -> int:
        """What a pull transfers at most: manifest, config and each distinct layer."""
        blobs = {blob.digest: blob.size for blob in (self.config, *self.layers)}
        return len(self.raw) + sum(blobs.values())


@dataclass(frozen=True, slots=True)
class Index:
    """One image for several platforms, or any set of manifests and indexes."""

    raw: bytes = field(repr=False)
    digest: Digest
    media_type: str
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, raw: bytes, media_type: str = media_types.OCI_INDEX) -> Self:
        """Read an index (OCI, or Docker's manifest list); raise `Invalid`.

        *media_type* counts when the document does not name its own.
        """
        return cls._read(raw, parse_document(raw, "index"), media_type)

    @classmethod
    def _read(cls, raw: bytes, fields: dict[str, Any], media_type: str) -> Self:
        refuse_other_case(fields, _FIELDS, "index")
        if "layers" in fields or "config" in fields:
            raise Invalid("the index has 'layers' or 'config' too: it could be read as a manifest")
        return cls(
            raw=raw,
            digest=Digest.of(raw),
            media_type=_media_type(fields, "index", media_types.INDEXES, media_type),
            manifests=_descriptors(fields, "manifests", "index"),
            subject=_subject(fields, "index"),
            artifact_type=_artifact_type(fields, "index"),
            annotations=text_map(fields, "annotations", "index"),
        )

    @classmethod
    def build(
        cls,
        manifests: Iterable[Descriptor],
        annotations: Mapping[str, str] | None = None,
        *,
        artifact_type: str = "",
        subject: Descriptor | None = None,
    ) -> Self:
        """Return an OCI index in canonical JSON."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [manifest.to_json() for manifest in manifests],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        if artifact_type:
            document["artifactType"] = artifact_type
        if subject is not None:
            document["subject"] = subject.to_json()
        return cls.parse(canonical_json(document))

    def descriptor(self) -> Descriptor:
        """Return the descriptor that points at this index."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    def find_platform(self, platform: Platform) -> Descriptor | None:
        """Return the manifest to run on *platform*: an exact variant before a fitting one."""
        fitting = [d for d in self.manifests if d.platform is not None and platform.runs(d.platform)]
        exact = [d for d in fitting if d.platform is not None and d.platform.variant == platform.variant]
        return next(iter(exact or fitting), None)


def parse_manifest(raw: bytes, media_type: str | None = None) -> Manifest | Index:
    """Read a manifest or an index, as *media_type* (Content-Type) or else the document says.

    Raises `Invalid` when the two differ, or when neither says and the fields
    do not tell.
    """
    fields = parse_document(raw, "manifest")
    inside = text_field(fields, "mediaType", "manifest")
    outside = (media_type or "").partition(";")[0].strip().lower()
    if inside and outside and inside != outside:
        raise Invalid(f"the manifest says it is {inside[:100]!r}, but was sent as {outside[:100]!r}")
    kind = inside or outside
    if not kind:
        kind = media_types.OCI_INDEX if "manifests" in fields else media_types.OCI_MANIFEST
    if kind in media_types.INDEXES:
        return Index._read(raw, fields, kind)
    if kind in media_types.MANIFESTS:
        return Manifest._read(raw, fields, kind)
    raise Invalid(f"{kind[:100]!r} is not a media type of an image manifest or index")
