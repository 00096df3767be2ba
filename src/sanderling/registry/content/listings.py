"""What is listed of repositories: names, tags, referrers, images. SQL, synchronous, paged by name."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, exists, false, or_, select, true

from sanderling.oci import Digest
from sanderling.registry import tables
from sanderling.registry.access.rights import Scope
from sanderling.registry.errors import RepositoryNotFound

# distribution-spec 1.1, "Listing Referrers": a page is an index and stays below 4 MiB.
_MAX_REFERRERS_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TagInfo:
    """A tag. `size_bytes` counts the manifest and all that a pull of it transfers."""

    name: str
    digest: Digest
    size_bytes: int
    pushed_at: datetime


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image that is here. `platforms` as `linux/arm64`; `created` as its config says, or empty."""

    repository: str
    digest: Digest
    media_type: str
    size_bytes: int
    platforms: tuple[str, ...]
    created: str
    pushed_at: datetime


class Listings:
    """Reads what `Content` wrote."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def repositories(
        self, last: str = "", limit: int | None = None, scopes: Sequence[Scope] | None = None
    ) -> list[str]:
        """Return names of repositories that hold a manifest, in order, after *last*.

        With *scopes*, only those in which something is allowed by them.
        """
        table = tables.repositories
        holds = exists().where(tables.manifests.c.repository_id == table.c.id)
        visible = true() if scopes is None else or_(false(), *(_covered(scope) for scope in scopes))
        query = select(table.c.name).where(table.c.name > last, holds, visible).order_by(table.c.name).limit(limit)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def tag_names(self, repository: str, last: str = "", limit: int | None = None) -> list[str]:
        """Return tags in order, after *last*; raise `RepositoryNotFound`."""
        repository_id = self._repository_id(repository)
        table = tables.tags
        query = select(table.c.name).where(table.c.repository_id == repository_id, table.c.name > last)
        with self._engine.connect() as connection:
            return list(connection.execute(query.order_by(table.c.name).limit(limit)).scalars())

    def tags(self, repository: str) -> list[TagInfo]:
        """Return all tags, the latest push first; raise `RepositoryNotFound`."""
        repository_id = self._repository_id(repository)
        tag, manifest = tables.tags, tables.manifests
        query = (
            select(tag.c.name, tag.c.digest, tag.c.pushed_at, manifest.c.total_size_bytes)
            .join_from(
                tag, manifest, (tag.c.repository_id == manifest.c.repository_id) & (tag.c.digest == manifest.c.digest)
            )
            .where(tag.c.repository_id == repository_id)
            .order_by(tag.c.pushed_at.desc(), tag.c.name)
        )
        with self._engine.connect() as connection:
            return [
                TagInfo(row.name, Digest(row.digest), row.total_size_bytes, _moment(row.pushed_at))
                for row in connection.execute(query)
            ]

    def find_image(self, repository: str, reference: str) -> ImageInfo | None:
        """Return what is known of the image of a tag or a digest."""
        table, name = tables.manifests, tables.repositories.c.name
        tag = tables.tags
        query = (
            select(
                table.c.digest, table.c.media_type, table.c.total_size_bytes,
                table.c.platforms, table.c.created, table.c.pushed_at,
            )
            .join_from(table, tables.repositories)
            .where(name == repository)
        )  # fmt: skip
        if ":" in reference:
            query = query.where(table.c.digest == reference)
        else:
            query = query.join(
                tag, (tag.c.repository_id == table.c.repository_id) & (tag.c.digest == table.c.digest)
            ).where(tag.c.name == reference)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return ImageInfo(
            repository=repository,
            digest=Digest(row.digest),
            media_type=row.media_type,
            size_bytes=row.total_size_bytes,
            platforms=tuple(json.loads(row.platforms)),
            created=row.created,
            pushed_at=_moment(row.pushed_at),
        )

    def referrers(
        self, repository: str, subject: Digest, artifact_type: str = "", last: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """Return descriptors of manifests about *subject*, and where to go on, or empty."""
        table = tables.manifests
        query = (
            select(table.c.digest, table.c.media_type, table.c.size_bytes, table.c.artifact_type, table.c.annotations)
            .join_from(table, tables.repositories)
            .where(tables.repositories.c.name == repository, table.c.subject == subject, table.c.digest > last)
            .order_by(table.c.digest)
        )
        if artifact_type:
            query = query.where(table.c.artifact_type == artifact_type)
        found: list[dict[str, Any]] = []
        size = 0
        with self._engine.connect() as connection:
            # As they are needed: all of them could be more than memory holds.
            with connection.execution_options(yield_per=20).execute(query) as rows:
                for row in rows:
                    size += len(row.annotations) + 512
                    if found and size > _MAX_REFERRERS_BYTES:
                        return found, found[-1]["digest"]
                    found.append(_referrer(row))
        return found, ""

    def _repository_id(self, name: str) -> int:
        query = select(tables.repositories.c.id).where(tables.repositories.c.name == name)
        with self._engine.connect() as connection:
            found: int | None = connection.execute(query).scalar_one_or_none()
        if found is None:
            raise RepositoryNotFound(name)
        return found


def _referrer(row: Any) -> dict[str, Any]:
    descriptor = {"mediaType": row.media_type, "digest": row.digest, "size": row.size_bytes}
    if row.artifact_type:
        descriptor["artifactType"] = row.artifact_type
    annotations = json.loads(row.annotations)
    return descriptor | ({"annotations": annotations} if annotations else {})


def _covered(scope: Scope) -> ColumnElement[bool]:
    name = tables.repositories.c.name
    if scope.repositories == "*":
        return true()
    if scope.repositories.endswith("/*"):
        return name.startswith(scope.repositories[:-1], autoescape=True)
    return name == scope.repositories


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
