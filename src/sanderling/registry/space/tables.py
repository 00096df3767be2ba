"""The tables about space, on the registry's metadata. Times are seconds since the epoch (UTC).

removals   bytes that are being removed from the store, or were of late
touches    when a manifest was last pushed again, told of by digest, or lost a tag
expiring   manifests that a retention rule is removing: who is killed in the middle goes on
rules      retention rules, by pattern of repositories
quotas     how many bytes a workspace may hold
"""

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Integer, String, Table, Text

from sanderling.registry.tables import metadata

_DIGEST = String(135).with_variant(String(135, collation="C"), "postgresql")
_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")

removals = Table(
    "registry_removals",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("claimed_at", Double, nullable=False),
    Column("ended_at", Double),  # NULL: bytes may go at any moment
)

touches = Table(
    "registry_touches",
    metadata,
    Column("repository_id", Integer, ForeignKey("registry_repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("touched_at", Double, nullable=False),
)

expiring = Table(
    "registry_expiring",
    metadata,
    Column("repository_id", Integer, ForeignKey("registry_repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
)

rules = Table(
    "registry_retention_rules",
    metadata,
    Column("pattern", _NAME, primary_key=True),
    Column("keep_last", Integer),
    Column("keep_days", Double),
    Column("keep_tags", Text, nullable=False),  # JSON list of globs
    Column("untagged_days", Double),
)

quotas = Table(
    "registry_quotas",
    metadata,
    Column("workspace", _NAME, primary_key=True),
    Column("limit_bytes", BigInteger, nullable=False),
)
