"""What repositories hold: blob links, manifests, tags, uploads. SQL, synchronous.

- A blob is visible in a repository through a row of `blobs` only.
- Every change is one transaction; a manifest appears with its tag and its
  references, or not at all.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, ScalarSelect, Select, bindparam, delete, func, select

from sanderling.blobs import BlobInfo, BlobNotFound, UploadNotFound
from sanderling.oci import Digest, ImageConfig, Index, Manifest
from sanderling.registry import tables
from sanderling.registry.content.manifest_rows import Need, find_needs, manifest_row, promised_needs
from sanderling.registry.errors import ManifestNotFound

# What every pull asks. Built once: building a statement takes longer than running it.
_IS_REPOSITORY = tables.repositories.c.name == bindparam("repository")
_BLOB_SIZE = (
    select(tables.blobs.c.size_bytes)
    .join_from(tables.blobs, tables.repositories)
    .where(_IS_REPOSITORY, tables.blobs.c.digest == bindparam("digest"))
)
_MANIFEST = (
    select(tables.manifests.c.digest, tables.manifests.c.media_type, tables.manifests.c.raw)
    .join_from(tables.manifests, tables.repositories)
    .where(_IS_REPOSITORY)
)
_MANIFEST_BY_DIGEST = _MANIFEST.where(tables.manifests.c.digest == bindparam("reference"))
_MANIFEST_BY_TAG = _MANIFEST.join(
    tables.tags,
    (tables.tags.c.repository_id == tables.manifests.c.repository_id)
    & (tables.tags.c.digest == tables.manifests.c.digest),
).where(tables.tags.c.name == bindparam("reference"))
_DIGEST_BY_DIGEST = _MANIFEST_BY_DIGEST.with_only_columns(tables.manifests.c.digest)
_DIGEST_BY_TAG = _MANIFEST_BY_TAG.with_only_columns(tables.manifests.c.digest)


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is served."""

    digest: Digest
    media_type: str
    raw: bytes


class Content:
    """The contents of all repositories."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock
        tables.metadata.create_all(engine)

    def find_blob(self, repository: str, digest: Digest) -> BlobInfo | None:
        """Return the blob when it is visible in *repository*."""
        with self._engine.connect() as connection:
            size = connection.execute(_BLOB_SIZE, {"repository": repository, "digest": digest}).scalar_one_or_none()
        return None if size is None else BlobInfo(digest, size)

    def link_blob(self, repository: str, blob: BlobInfo) -> None:
        """Make *blob*, which the store has, visible in *repository*."""
        with self._engine.begin() as connection:
            self._link(connection, repository, blob)

    def find_blob_anywhere(self, digest: Digest, limit: int = 100) -> list[tuple[str, BlobInfo]]:
        """Return repositories in which the blob is visible."""
        query = (
            select(tables.repositories.c.name, tables.blobs.c.size_bytes)
            .join_from(tables.blobs, tables.repositories)
            .where(tables.blobs.c.digest == digest)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [(row.name, BlobInfo(digest, row.size_bytes)) for row in connection.execute(query)]

    def unlink_blob(self, repository: str, digest: Digest) -> None:
        """Hide the blob from *repository*; raise `BlobNotFound`."""
        statement = delete(tables.blobs).where(
            tables.blobs.c.repository_id == _id_of(repository), tables.blobs.c.digest == digest
        )
        with self._engine.begin() as connection:
            if connection.execute(statement).rowcount == 0:
                raise BlobNotFound(digest)

    def add_upload(self, upload_id: str, repository: str) -> None:
        """Remember that the upload belongs to *repository*."""
        row = {"id": upload_id, "repository": repository, "started_at": self._clock()}
        with self._engine.begin() as connection:
            connection.execute(tables.uploads.insert().values(row))

    def check_upload(self, upload_id: str, repository: str) -> None:
        """Raise `UploadNotFound` unless the upload belongs to *repository*."""
        query = select(tables.uploads.c.id).where(
            tables.uploads.c.id == upload_id, tables.uploads.c.repository == repository
        )
        with self._engine.connect() as connection:
            if connection.execute(query).first() is None:
                raise UploadNotFound(upload_id)

    def end_upload(self, upload_id: str, linked: tuple[str, BlobInfo] | None = None) -> None:
        """Forget the upload; with *linked*, make its blob visible in that repository at the same time."""
        with self._engine.begin() as connection:
            connection.execute(delete(tables.uploads).where(tables.uploads.c.id == upload_id))
            if linked is not None:
                self._link(connection, *linked)

    def uploads_started_before(self, moment: float) -> list[str]:
        """Return the ids of uploads older than *moment*."""
        query = select(tables.uploads.c.id).where(tables.uploads.c.started_at < moment)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def find_manifest(self, repository: str, reference: str) -> StoredManifest | None:
        """Return the manifest of a tag or a digest."""
        query = _MANIFEST_BY_DIGEST if ":" in reference else _MANIFEST_BY_TAG
        with self._engine.connect() as connection:
            row = connection.execute(query, {"repository": repository, "reference": reference}).one_or_none()
        return None if row is None else StoredManifest(Digest(row.digest), row.media_type, row.raw)

    def put_manifest(
        self, repository: str, digest: Digest, parsed: Manifest | Index, tags: Iterable[str], config: ImageConfig | None
    ) -> None:
        """Keep a manifest under *digest* and under *tags*.

        *config* is the parsed config of an image, for what is listed of it.
        Raises `MissingReference` when the repository lacks what the manifest
        names, `ManifestInvalid` when a size differs from what is there.
        """
        with self._engine.begin() as connection:
            repository_id = self._ensure_repository(connection, repository)
            needs = find_needs(connection, repository_id, repository, parsed)
            self._put_rows(connection, repository_id, digest, manifest_row(parsed, config, needs), needs, tags)

    def put_promised(
        self, repository: str, digest: Digest, parsed: Manifest | Index, tags: Iterable[str], config: ImageConfig | None
    ) -> None:
        """Keep a manifest of an upstream as `put_manifest` does, before what it names is here.

        Its references are the promise: `find_promised_size` knows them.
        """
        with self._engine.begin() as connection:
            repository_id = self._ensure_repository(connection, repository)
            needs = promised_needs(parsed)
            self._put_rows(connection, repository_id, digest, manifest_row(parsed, config, needs), needs, tags)

    def find_promised_size(self, repository: str, digest: Digest) -> int | None:
        """Return the size that a manifest in *repository* says the blob has; None when none names it."""
        table = tables.references
        query = select(func.max(table.c.size_bytes)).where(
            table.c.repository_id == _id_of(repository), table.c.digest == digest, table.c.is_manifest.is_(False)
        )
        with self._engine.connect() as connection:
            found: int | None = connection.execute(query).scalar_one_or_none()
        return found

    def find_digest(self, repository: str, reference: str) -> Digest | None:
        """Return the digest of the manifest of a tag or a digest, when it is here."""
        query = _DIGEST_BY_DIGEST if ":" in reference else _DIGEST_BY_TAG
        with self._engine.connect() as connection:
            found = connection.execute(query, {"repository": repository, "reference": reference}).scalar_one_or_none()
        return None if found is None else Digest(found)

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Delete the manifest and the tags that name it; raise `ManifestNotFound`."""
        repository_id = _id_of(repository)
        with self._engine.begin() as connection:
            for table, column in (
                (tables.tags, tables.tags.c.digest),
                (tables.references, tables.references.c.manifest_digest),
            ):
                connection.execute(delete(table).where(table.c.repository_id == repository_id, column == digest))
            table = tables.manifests
            statement = delete(table).where(table.c.repository_id == repository_id, table.c.digest == digest)
            if connection.execute(statement).rowcount == 0:
                raise ManifestNotFound(repository, digest)

    def delete_tag(self, repository: str, tag: str) -> None:
        """Delete the tag alone; raise `ManifestNotFound`."""
        statement = delete(tables.tags).where(
            tables.tags.c.repository_id == _id_of(repository), tables.tags.c.name == tag
        )
        with self._engine.begin() as connection:
            if connection.execute(statement).rowcount == 0:
                raise ManifestNotFound(repository, tag)

    def _put_rows(
        self,
        connection: Connection,
        repository_id: int,
        digest: Digest,
        row: dict[str, object],
        needs: list[Need],
        tags: Iterable[str],
    ) -> None:
        now = self._clock()
        key: dict[str, object] = {"repository_id": repository_id, "digest": str(digest)}
        tables.put_row(connection, tables.manifests, key | row | {"pushed_at": now}, replace=False)
        for needed in needs:
            entry = {"repository_id": repository_id, "manifest_digest": str(digest), **needed.row()}
            tables.put_row(connection, tables.references, entry, replace=False)
        for tag in tags:
            entry = key | {"name": tag, "pushed_at": now}
            tables.put_row(connection, tables.tags, entry, replace=True)

    def _link(self, connection: Connection, repository: str, blob: BlobInfo) -> None:
        row: dict[str, object] = {
            "repository_id": self._ensure_repository(connection, repository),
            "digest": str(blob.digest),
            "size_bytes": blob.size,
            "linked_at": self._clock(),
        }
        tables.put_row(connection, tables.blobs, row, replace=True)

    def _ensure_repository(self, connection: Connection, name: str) -> int:
        row: dict[str, object] = {"name": name, "created_at": self._clock()}
        tables.put_row(connection, tables.repositories, row, replace=False)
        return int(connection.execute(_select_id(name)).scalar_one())


def _id_of(repository: str) -> ScalarSelect[int]:
    return _select_id(repository).scalar_subquery()


def _select_id(repository: str) -> Select[int]:
    return select(tables.repositories.c.id).where(tables.repositories.c.name == repository)
