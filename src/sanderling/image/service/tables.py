"""The tables of the build service. Times are RFC 3339 text in UTC, so that every database keeps them alike."""

from sqlalchemy import JSON, BigInteger, Column, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

# The last version of each name; it outlives deleted builds, so that no version ever returns.
names = Table(
    "image_names",
    metadata,
    Column("workspace", String(64), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("last_version", Integer, nullable=False),
)

# What is known of a build besides: a table of its own, so that databases of earlier versions need no change.
details = Table(
    "image_build_details",
    metadata,
    Column("workspace", String(64), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", JSON, nullable=False),
)

builds = Table(
    "image_builds",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("workspace", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("location", Text, nullable=False),
    Column("recipe", JSON, nullable=False),
    Column("properties", JSON, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("started_at", String(40)),
    Column("finished_at", String(40)),
    Column("digest", String(200)),
    Column("size_bytes", BigInteger),
    Column("layers", JSON),
    Column("error_kind", String(32)),
    Column("error", Text),
    UniqueConstraint("workspace", "name", "version"),
)
