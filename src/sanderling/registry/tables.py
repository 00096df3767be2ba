"""The registry's tables. Bytes of layers are in the blob store; manifests are here, whole.

    repositories ─┬─ blobs        which blobs are visible in a repository, and nowhere else
                  ├─ manifests ─── references   what a manifest needs (for sizes and garbage collection)
                  └─ tags         name -> digest
    uploads       an upload in progress belongs to one repository
    admins        the admin user of each workspace, passwords sealed
    tokens        named tokens of each workspace, passwords hashed
    keys          the key that signs tokens, sealed

Times are seconds since the epoch (UTC).
"""

from functools import cache

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql, sqlite

metadata = MetaData()

# Names sort by bytes everywhere: paging compares them, and the spec's order is ASCII.
_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")
_DIGEST = String(135).with_variant(String(135, collation="C"), "postgresql")


def _repository_id() -> Column[int]:
    return Column(
        "repository_id", Integer, ForeignKey("registry_repositories.id", ondelete="CASCADE"), primary_key=True
    )


repositories = Table(
    "registry_repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
)

blobs = Table(
    "registry_blobs",
    metadata,
    _repository_id(),
    Column("digest", _DIGEST, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("linked_at", Double, nullable=False),
    Index("registry_blobs_by_digest", "digest"),
)

manifests = Table(
    "registry_manifests",
    metadata,
    _repository_id(),
    Column("digest", _DIGEST, primary_key=True),
    Column("media_type", String(255), nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("total_size_bytes", BigInteger, nullable=False),  # with all that a pull transfers
    Column("subject", _DIGEST, nullable=False),  # empty: no referrer
    Column("artifact_type", String(255), nullable=False),
    Column("annotations", Text, nullable=False),  # JSON, as referrers are listed
    Column("platforms", Text, nullable=False),  # JSON list of os/architecture[/variant]
    Column("created", Text, nullable=False),  # as the image's config says
    Column("pushed_at", Double, nullable=False),
    Index("registry_manifests_by_subject", "repository_id", "subject"),
)

references = Table(
    "registry_references",
    metadata,
    Column("repository_id", Integer, primary_key=True),
    Column("manifest_digest", _DIGEST, primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("is_manifest", Boolean, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["repository_id", "manifest_digest"],
        ["registry_manifests.repository_id", "registry_manifests.digest"],
        ondelete="CASCADE",
    ),
    Index("registry_references_by_digest", "repository_id", "digest"),
)

tags = Table(
    "registry_tags",
    metadata,
    _repository_id(),
    Column("name", _NAME, primary_key=True),
    Column("digest", _DIGEST, nullable=False),
    Column("pushed_at", Double, nullable=False),
    ForeignKeyConstraint(
        ["repository_id", "digest"],
        ["registry_manifests.repository_id", "registry_manifests.digest"],
        ondelete="CASCADE",
    ),
    Index("registry_tags_by_digest", "repository_id", "digest"),
)

uploads = Table(
    "registry_uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("repository", _NAME, nullable=False),
    Column("started_at", Double, nullable=False),
)

admins = Table(
    "registry_admins",
    metadata,
    Column("workspace", _NAME, primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("password", LargeBinary, nullable=False),
    Column("password2", LargeBinary, nullable=False),
)

tokens = Table(
    "registry_tokens",
    metadata,
    Column("workspace", _NAME, primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("description", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # JSON list of [pattern, [action, ...]]
    Column("enabled", Boolean, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),  # NULL: when it is deleted
    Column("used_at", Double),
    Column("device", String(128), nullable=False),  # the device it was made for; empty: none
    Column("device_generation", String(64), nullable=False),
    Index("registry_tokens_by_device", "device"),
)

keys = Table(
    "registry_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)


def put_row(connection: Connection, table: Table, row: dict[str, object], *, replace: bool) -> None:
    """Insert *row*; where its key is there already, replace the rest or leave it as it is.

    One statement, so that two writers at once both succeed.
    """
    put_rows(connection, table, [row], replace=replace)


def put_rows(connection: Connection, table: Table, rows: list[dict[str, object]], *, replace: bool) -> None:
    """Put each row of *rows*, which name the same columns, as `put_row` does, in their order."""
    if rows:
        connection.execute(_upsert(connection.dialect.name, table, frozenset(rows[0]), replace), rows)


@cache
def _upsert(dialect: str, table: Table, names: frozenset[str], replace: bool) -> Insert:
    key = [column.name for column in table.primary_key if column.name in names]
    if not key:  # the key is a counter: the row is known by its unique name
        key = ["name"]
    insert = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    rest = {name: insert.excluded[name] for name in names if name not in key}
    if replace and rest:
        return insert.on_conflict_do_update(index_elements=key, set_=rest)
    return insert.on_conflict_do_nothing(index_elements=key)
