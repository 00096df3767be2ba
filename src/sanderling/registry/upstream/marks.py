"""What pull-through remembers in SQL beside the content itself. Synchronous."""

from collections.abc import Callable

from sqlalchemy import Engine, delete, select

from sanderling.oci import Digest
from sanderling.registry.tables import put_row
from sanderling.registry.upstream.tables import upstream_downloads, upstream_tags


class Marks:
    """When tags were asked for, and which uploads blobs come into."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine, self._clock = engine, clock

    def age_of(self, repository: str, tag: str) -> float | None:
        """Return how many seconds ago the upstream was asked for *tag*, or None for never."""
        table = upstream_tags
        query = select(table.c.checked_at).where(table.c.repository == repository, table.c.tag == tag)
        with self._engine.connect() as connection:
            checked_at = connection.execute(query).scalar_one_or_none()
        return None if checked_at is None else self._clock() - checked_at

    def checked(self, repository: str, tag: str) -> None:
        """Note that *tag* here is what the upstream has now."""
        row: dict[str, object] = {"repository": repository, "tag": tag, "checked_at": self._clock()}
        with self._engine.begin() as connection:
            put_row(connection, upstream_tags, row, replace=True)

    def find_upload(self, repository: str, digest: Digest) -> str | None:
        """Return the upload that the blob was coming into."""
        table = upstream_downloads
        query = select(table.c.upload_id).where(table.c.repository == repository, table.c.digest == digest)
        with self._engine.connect() as connection:
            found: str | None = connection.execute(query).scalar_one_or_none()
        return found

    def begun(self, repository: str, digest: Digest, upload_id: str) -> None:
        """Note the upload that the blob comes into."""
        row: dict[str, object] = {"repository": repository, "digest": str(digest), "upload_id": upload_id}
        with self._engine.begin() as connection:
            put_row(connection, upstream_downloads, row, replace=True)

    def ended(self, repository: str, digest: Digest) -> None:
        """Forget the upload."""
        table = upstream_downloads
        statement = delete(table).where(table.c.repository == repository, table.c.digest == digest)
        with self._engine.begin() as connection:
            connection.execute(statement)
