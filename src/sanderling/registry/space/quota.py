"""How many bytes a workspace holds, and may hold. SQL, synchronous.

- A workspace is the first part of a repository's name.
- It holds each blob that is linked below it once, and every manifest.
- What is linked counts until its link goes: at a delete of the blob, or with the garbage.
- Checked when an upload begins, while it streams, and in the transaction that links: two
  pushes at once cannot pass it together.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, delete, exists, func, select

from sanderling.errors import Denied, Invalid
from sanderling.registry.space.tables import quotas
from sanderling.registry.tables import blobs, manifests, put_row, repositories

MAX_LIMIT_BYTES = 2**62


class QuotaExceeded(Denied):
    """The workspace may not hold that much."""

    def __init__(self, workspace: str, *, limit_bytes: int, used_bytes: int) -> None:
        super().__init__(
            f"workspace {workspace} may hold {size_text(limit_bytes)} in the registry and holds"
            f" {size_text(used_bytes)}: there is no room for this. Delete images and run 'sanderling registry gc',"
            " or let the owner raise 'sanderling registry quota set'"
        )
        self.workspace, self.limit_bytes, self.used_bytes = workspace, limit_bytes, used_bytes


@dataclass(frozen=True, slots=True)
class RepositoryUsage:
    """What one repository holds; what it shares with others counts here too."""

    name: str
    size_bytes: int
    blobs: int
    manifests: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace holds, shared blobs once; `limit_bytes` is None without a quota."""

    workspace: str
    size_bytes: int
    limit_bytes: int | None
    repositories: tuple[RepositoryUsage, ...]


def workspace_of(repository: str) -> str:
    """Return the workspace that the repository belongs to."""
    return repository.partition("/")[0]


def check_room(connection: Connection, repository: str, size_bytes: int, digest: str = "") -> None:
    """Raise `QuotaExceeded` when *size_bytes* more have no room; a blob *digest* that is there takes none."""
    room = find_room(connection, repository, digest)
    if room is not None and size_bytes > room[0]:
        raise exceeded(repository, room)


def find_room(connection: Connection, repository: str, digest: str = "") -> tuple[int, int] | None:
    """Return (bytes that have room, the limit), or None where there is no limit for this."""
    workspace = workspace_of(repository)
    limit = find_limit(connection, workspace)
    if limit is None:
        return None
    if digest:
        here = exists().where(blobs.c.digest == digest, blobs.c.repository_id == repositories.c.id)
        if connection.execute(select(repositories.c.id).where(_below(workspace), here).limit(1)).first():
            return None
    return limit - used_bytes(connection, workspace), limit


def exceeded(repository: str, room: tuple[int, int]) -> QuotaExceeded:
    """Return the refusal for what is more than *room*, as `find_room` gave it."""
    return QuotaExceeded(workspace_of(repository), limit_bytes=room[1], used_bytes=room[1] - room[0])


def find_limit(connection: Connection, workspace: str) -> int | None:
    """Return the workspace's quota in bytes."""
    query = select(quotas.c.limit_bytes).where(quotas.c.workspace == workspace)
    found: int | None = connection.execute(query).scalar_one_or_none()
    return found


def used_bytes(connection: Connection, workspace: str) -> int:
    """Return how many bytes the workspace holds."""
    each = (
        select(func.max(blobs.c.size_bytes).label("size"))
        .join_from(blobs, repositories)
        .where(_below(workspace))
        .group_by(blobs.c.digest)
        .subquery()
    )
    layers = connection.execute(select(func.coalesce(func.sum(each.c.size), 0))).scalar_one()
    query = select(func.coalesce(func.sum(manifests.c.size_bytes), 0)).join_from(manifests, repositories)
    return int(layers) + int(connection.execute(query.where(_below(workspace))).scalar_one())


class Quotas:
    """Limits and usage by workspace."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set_limit(self, workspace: str, limit_bytes: int | None) -> None:
        """Limit the workspace, or None: no limit. What it holds already stays; raises `Invalid`."""
        with self._engine.begin() as connection:
            if limit_bytes is None:
                connection.execute(delete(quotas).where(quotas.c.workspace == workspace))
                return
            if not 0 <= limit_bytes <= MAX_LIMIT_BYTES:
                raise Invalid(f"a quota of {limit_bytes} bytes cannot be: give 0 or more")
            row: dict[str, object] = {"workspace": workspace, "limit_bytes": limit_bytes}
            put_row(connection, quotas, row, replace=True)

    def usage(self, workspace: str) -> Usage:
        """Return what the workspace and each of its repositories hold."""
        blob_sums = (
            select(blobs.c.repository_id, func.count().label("count"), func.sum(blobs.c.size_bytes).label("size"))
            .group_by(blobs.c.repository_id)
            .subquery()
        )
        manifest_sums = (
            select(
                manifests.c.repository_id, func.count().label("count"), func.sum(manifests.c.size_bytes).label("size")
            )
            .group_by(manifests.c.repository_id)
            .subquery()
        )
        query = (
            select(
                repositories.c.name, blob_sums.c.count, blob_sums.c.size, manifest_sums.c.count, manifest_sums.c.size
            )
            .select_from(repositories)
            .outerjoin(blob_sums, blob_sums.c.repository_id == repositories.c.id)
            .outerjoin(manifest_sums, manifest_sums.c.repository_id == repositories.c.id)
            .where(_below(workspace))
            .order_by(repositories.c.name)
        )
        with self._engine.connect() as connection:
            found = tuple(
                RepositoryUsage(name, int(layers or 0) + int(documents or 0), blob_count or 0, manifest_count or 0)
                for name, blob_count, layers, manifest_count, documents in connection.execute(query)
                if blob_count or manifest_count
            )
            limit = find_limit(connection, workspace)
            return Usage(workspace, used_bytes(connection, workspace), limit, found)


def size_text(size: int) -> str:
    """Bytes for people: 812 B, 1.4 kB, 23.0 MB."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def _below(workspace: str) -> ColumnElement[bool]:
    # '0' is the letter after '/': names sort by bytes, so this is a range of the index.
    name = repositories.c.name
    return (name == workspace) | ((name > f"{workspace}/") & (name < f"{workspace}0"))
