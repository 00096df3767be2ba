"""What a manifest needs of its repository, and the row that is kept of it."""

import json
import re
from dataclasses import dataclass

from sqlalchemy import Connection, select

from sanderling.oci import Descriptor, Digest, ImageConfig, Index, Manifest, canonical_json, media_types
from sanderling.registry import tables
from sanderling.registry.errors import ManifestInvalid, MissingReference

_MANIFEST_TYPES = media_types.MANIFESTS | media_types.INDEXES
_LOOKUP = 500  # digests in one query
_MAX_TOTAL = 2**63 - 1  # what the column holds; indexes that name each other twice would double past it
# What an index is listed with is bounded: it is inherited from index to index.
_MAX_PLATFORMS = 200
_PLATFORM = re.compile(r"[A-Za-z0-9_./-]{1,100}")


@dataclass(frozen=True, slots=True)
class Need:
    """Something in the repository that a manifest names."""

    digest: Digest
    is_manifest: bool
    size_bytes: int
    total_size_bytes: int
    platforms: tuple[str, ...] = ()

    def row(self) -> dict[str, object]:
        """Return the part of a row of `references` that is about this."""
        return {"digest": str(self.digest), "is_manifest": self.is_manifest, "size_bytes": self.size_bytes}


def find_needs(connection: Connection, repository_id: int, repository: str, parsed: Manifest | Index) -> list[Need]:
    """Return what *parsed* names, each once.

    Raises `MissingReference`, and `ManifestInvalid` where the size is another.
    Layers with URLs are kept elsewhere and may be missing (image-spec 1.1,
    "Non-distributable layers"); a subject may come later.
    """
    if isinstance(parsed, Index):
        named: tuple[Descriptor, ...] = parsed.manifests
        found = _manifests(connection, repository_id, named)
        found |= _blobs(connection, repository_id, [d for d in named if d.media_type not in _MANIFEST_TYPES])
    else:
        named = (parsed.config, *parsed.layers)
        found = _blobs(connection, repository_id, named)
    needs: dict[Digest, Need] = {}
    for descriptor in named:
        need = found.get(descriptor.digest)
        if need is None:
            if descriptor.urls:
                continue
            raise MissingReference(repository, descriptor.digest)
        if need.size_bytes != descriptor.size:
            raise ManifestInvalid(
                f"the manifest says that {descriptor.digest} has {descriptor.size} bytes; it has {need.size_bytes}"
            )
        needs[need.digest] = need
    return list(needs.values())


def promised_needs(parsed: Manifest | Index) -> list[Need]:
    """Return what a manifest of an upstream names, each once: as large as it says, here or not."""
    named = parsed.manifests if isinstance(parsed, Index) else (parsed.config, *parsed.layers)
    needs = (Need(d.digest, d.media_type in _MANIFEST_TYPES, d.size, d.size) for d in named)
    return list({need.digest: need for need in needs}.values())


def manifest_row(parsed: Manifest | Index, config: ImageConfig | None, needs: list[Need]) -> dict[str, object]:
    """Return the columns of `manifests` that follow from the content."""
    artifact_type = parsed.artifact_type
    if isinstance(parsed, Manifest):
        # distribution-spec 1.1, "Listing Referrers": the config's type stands in for a missing one.
        artifact_type = artifact_type or parsed.config.media_type
        platforms = [str(config.platform)] if config is not None and config.platform.os else []
    else:
        inside = [platform for need in needs for platform in need.platforms]
        platforms = [str(d.platform) for d in parsed.manifests if d.platform is not None] or inside
    return {
        "media_type": parsed.media_type,
        "raw": parsed.raw,
        "size_bytes": len(parsed.raw),
        "total_size_bytes": min(len(parsed.raw) + sum(need.total_size_bytes for need in needs), _MAX_TOTAL),
        "subject": "" if parsed.subject is None else str(parsed.subject.digest),
        "artifact_type": artifact_type,
        "annotations": json.dumps(dict(parsed.annotations)),
        "platforms": canonical_json(sorted({p for p in platforms if _PLATFORM.fullmatch(p)})[:_MAX_PLATFORMS]).decode(),
        # PostgreSQL's texts hold no NUL.
        "created": "" if config is None else config.created[:64].replace("\0", ""),
    }


def _blobs(
    connection: Connection, repository_id: int, named: "list[Descriptor] | tuple[Descriptor, ...]"
) -> dict[Digest, Need]:
    table, found = tables.blobs, {}
    for start in range(0, len(named), _LOOKUP):
        digests = [str(d.digest) for d in named[start : start + _LOOKUP]]
        query = select(table.c.digest, table.c.size_bytes).where(
            table.c.repository_id == repository_id, table.c.digest.in_(digests)
        )
        for row in connection.execute(query):
            digest = Digest(row.digest)
            found[digest] = Need(digest, False, row.size_bytes, row.size_bytes)
    return found


def _manifests(connection: Connection, repository_id: int, named: tuple[Descriptor, ...]) -> dict[Digest, Need]:
    table, found = tables.manifests, {}
    for start in range(0, len(named), _LOOKUP):
        digests = [str(d.digest) for d in named[start : start + _LOOKUP]]
        query = select(table.c.digest, table.c.size_bytes, table.c.total_size_bytes, table.c.platforms).where(
            table.c.repository_id == repository_id, table.c.digest.in_(digests)
        )
        for row in connection.execute(query):
            digest = Digest(row.digest)
            platforms = tuple(json.loads(row.platforms))
            found[digest] = Need(digest, True, row.size_bytes, row.total_size_bytes, platforms)
    return found
