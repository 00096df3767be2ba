"""What repositories hold: blob links, manifests, tags, uploads. SQL, synchronous.

- A blob is visible in a repository through a row of `blobs` only.
- Every change is one transaction; a manifest appears with its tag and its
  references, or not at all.
- Who is told that something is here may count on it for half the grace time at
  least: the telling is written down, when it was not of late (`tell_blob`,
  `tell_manifest`).
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, ScalarSelect, Select, bindparam, delete, func, select, update

from sanderling.blobs import BlobInfo, BlobNotFound, UploadNotFound
from sanderling.oci import Digest, ImageConfig, Index, Manifest
from sanderling.registry import tables
from sanderling.registry.content.manifest_rows import Need, find_needs, manifest_row, promised_needs
from sanderling.registry.errors import BlobBeingRemoved, ManifestNotFound
from sanderling.registry.space.quota import check_room, find_room
from sanderling.registry.space.removals import GRACE_S, Removal, find_removal, forget_removal, serialise
from sanderling.registry.space.tables import touches

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

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time, grace_s: float = GRACE_S) -> None:
        self._engine, self._clock, self._grace_s = engine, clock, grace_s
        tables.metadata.create_all(engine)

    def find_blob(self, repository: str, digest: Digest) -> BlobInfo | None:
        """Return the blob when it is visible in *repository*."""
        with self._engine.connect() as connection:
            size = connection.execute(_BLOB_SIZE, {"repository": repository, "digest": digest}).scalar_one_or_none()
        return None if size is None else BlobInfo(digest, size)

    def tell_blob(self, repository: str, digest: Digest) -> BlobInfo | None:
        """Return the blob as `find_blob` does, for a client that goes by it: it is kept for now."""
        key = (tables.blobs.c.repository_id == _id_of(repository)) & (tables.blobs.c.digest == digest)
        now = self._clock()
        with self._engine.connect() as connection:
            row = connection.execute(select(tables.blobs.c.size_bytes, tables.blobs.c.linked_at).where(key)).first()
        if row is None:
            return None
        if row.linked_at < now - self._grace_s / 2:
            with self._engine.begin() as connection:
                if connection.execute(update(tables.blobs).where(key).values(linked_at=now)).rowcount == 0:
                    return None  # the garbage collection was faster
        return BlobInfo(digest, row.size_bytes)

    def link_blob(self, repository: str, blob: BlobInfo, known: Removal | None = None) -> None:
        """Make *blob*, which the store has, visible in *repository*.

        Raises `BlobBeingRemoved` when its bytes are being removed, or were of
        late, but for a removal that is *known* to have left them; `QuotaExceeded`.
        See `space.links` for a caller who has just committed the blob.
        """
        with self._engine.begin() as connection:
            self._link(connection, repository, blob, known)

    def mount_blob(self, repository: str, source: str, digest: Digest) -> BlobInfo | None:
        """Make a blob of *source* visible in *repository*; None when *source* does not have it. `QuotaExceeded`."""
        with self._engine.begin() as connection:
            serialise(connection, digest)
            size = _blob_size(connection, source, digest)  # in this transaction: the garbage goes before or after
            if size is None:
                return None
            blob = BlobInfo(digest, size)
            self._insert_link(connection, repository, blob)
            return blob

    def find_room(self, repository: str, digest: str = "") -> tuple[int, int] | None:
        """Return (bytes that the workspace has room for, its quota); None for no limit. See `space.quota`."""
        with self._engine.connect() as connection:
            return find_room(connection, repository, digest)

    def check_room(self, repository: str, size_bytes: int, digest: str = "") -> None:
        """Raise `QuotaExceeded` when the workspace has no room for a blob of *size_bytes*."""
        with self._engine.connect() as connection:
            check_room(connection, repository, size_bytes, digest)

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

    def end_upload(
        self, upload_id: str, linked: tuple[str, BlobInfo] | None = None, known: Removal | None = None
    ) -> None:
        """Forget the upload; with *linked*, make its blob visible in that repository at the same time.

        Raises as `link_blob` does.
        """
        with self._engine.begin() as connection:
            connection.execute(delete(tables.uploads).where(tables.uploads.c.id == upload_id))
            if linked is not None:
                self._link(connection, *linked, known)

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

    def tell_manifest(self, repository: str, digest: Digest) -> None:
        """Keep the manifest for now: a client was told that it is here."""
        before = self._clock() - self._grace_s / 2
        table = tables.manifests
        query = (
            select(table.c.repository_id)
            .outerjoin(
                touches, (touches.c.repository_id == table.c.repository_id) & (touches.c.digest == table.c.digest)
            )
            .where(
                table.c.repository_id == _id_of(repository),
                table.c.digest == digest,
                table.c.pushed_at < before,
                func.coalesce(touches.c.touched_at, 0.0) < before,
            )
        )
        with self._engine.connect() as connection:
            repository_id = connection.execute(query).scalar_one_or_none()
        if repository_id is not None:
            with self._engine.begin() as connection:
                self._touch(connection, repository_id, digest)

    def put_manifest(
        self, repository: str, digest: Digest, parsed: Manifest | Index, tags: Iterable[str], config: ImageConfig | None
    ) -> None:
        """Keep a manifest under *digest* and under *tags*.

        *config* is the parsed config of an image, for what is listed of it.
        Raises `MissingReference` when the repository lacks what the manifest
        names, `ManifestInvalid` when a size differs from what is there,
        `QuotaExceeded`.
        """
        with self._engine.begin() as connection:
            repository_id = self._ensure_repository(connection, repository)
            needs = find_needs(connection, repository_id, repository, parsed)
            self._put_rows(connection, (repository, repository_id), digest, manifest_row(parsed, config, needs), needs)
            self._put_tags(connection, repository_id, digest, tags)

    def put_promised(
        self, repository: str, digest: Digest, parsed: Manifest | Index, tags: Iterable[str], config: ImageConfig | None
    ) -> None:
        """Keep a manifest of an upstream as `put_manifest` does, before what it names is here.

        Its references are the promise: `find_promised_size` knows them.
        """
        needs = promised_needs(parsed)
        with self._engine.begin() as connection:
            repository_id = self._ensure_repository(connection, repository)
            self._put_rows(connection, (repository, repository_id), digest, manifest_row(parsed, config, needs), needs)
            self._put_tags(connection, repository_id, digest, tags)

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
            connection.execute(_select_id(repository).with_for_update())
            for table, column in (
                (tables.tags, tables.tags.c.digest),
                (tables.references, tables.references.c.manifest_digest),
                (touches, touches.c.digest),
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
            repository_id = connection.execute(_select_id(repository).with_for_update()).scalar_one_or_none()
            if repository_id is not None:
                self._touch_tagged(connection, repository_id, tag)
            if connection.execute(statement).rowcount == 0:
                raise ManifestNotFound(repository, tag)

    def _put_rows(
        self,
        connection: Connection,
        repository: tuple[str, int],
        digest: Digest,
        row: dict[str, object],
        needs: list[Need],
    ) -> None:
        name, repository_id = repository
        key: dict[str, object] = {"repository_id": repository_id, "digest": str(digest)}
        if _has_manifest(connection, repository_id, digest):
            self._touch(connection, repository_id, digest)
        else:
            raw = row["raw"]
            assert isinstance(raw, bytes)
            check_room(connection, name, len(raw))
        tables.put_row(connection, tables.manifests, key | row | {"pushed_at": self._clock()}, replace=False)
        of_this: dict[str, object] = {"repository_id": repository_id, "manifest_digest": str(digest)}
        tables.put_rows(connection, tables.references, [of_this | need.row() for need in needs], replace=False)

    def _put_tags(self, connection: Connection, repository_id: int, digest: Digest, tags: Iterable[str]) -> None:
        rows: list[dict[str, object]] = []
        for tag in tags:
            self._touch_tagged(connection, repository_id, tag)
            now = self._clock()
            rows.append({"repository_id": repository_id, "digest": str(digest), "name": tag, "pushed_at": now})
        tables.put_rows(connection, tables.tags, rows, replace=True)

    def _touch(self, connection: Connection, repository_id: int, digest: str) -> None:
        row: dict[str, object] = {"repository_id": repository_id, "digest": digest, "touched_at": self._clock()}
        tables.put_row(connection, touches, row, replace=True)

    def _touch_tagged(self, connection: Connection, repository_id: int, tag: str) -> None:
        """The tag leaves what it names: its time without a tag begins now."""
        table = tables.tags
        query = select(table.c.digest).where(table.c.repository_id == repository_id, table.c.name == tag)
        digest = connection.execute(query).scalar_one_or_none()
        if digest is not None:
            self._touch(connection, repository_id, digest)

    def _link(self, connection: Connection, repository: str, blob: BlobInfo, known: Removal | None = None) -> None:
        serialise(connection, blob.digest)
        removal = find_removal(connection, blob.digest)
        if removal is not None:
            if removal != known:
                raise BlobBeingRemoved(removal)
            forget_removal(connection, blob.digest)
        self._insert_link(connection, repository, blob)

    def _insert_link(self, connection: Connection, repository: str, blob: BlobInfo) -> None:
        check_room(connection, repository, blob.size, blob.digest)
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
        # Locked, where the database locks rows: changes to one repository come one after the other.
        return int(connection.execute(_select_id(name).with_for_update()).scalar_one())


def _id_of(repository: str) -> ScalarSelect[int]:
    return _select_id(repository).scalar_subquery()


def _select_id(repository: str) -> Select[int]:
    return select(tables.repositories.c.id).where(tables.repositories.c.name == repository)


def _has_manifest(connection: Connection, repository_id: int, digest: str) -> bool:
    table = tables.manifests
    query = select(table.c.digest).where(table.c.repository_id == repository_id, table.c.digest == digest)
    return connection.execute(query).first() is not None


def _blob_size(connection: Connection, repository: str, digest: Digest) -> int | None:
    return connection.execute(_BLOB_SIZE, {"repository": repository, "digest": digest}).scalar_one_or_none()
