"""The hub's tables. A device is the identity whose module_id is empty; a module has both."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite gives out numbers by itself only to an INTEGER key.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

policies = Table(
    "hub_policies",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("rights", JSON, nullable=False),
    Column("primary_key", String(128), nullable=False),
    Column("secondary_key", String(128), nullable=False),
)

identities = Table(
    "hub_identities",
    metadata,
    Column("device_id", String(128), primary_key=True),
    Column("module_id", String(128), primary_key=True),
    Column("generation_id", String(32), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("status_reason", String(128)),
    Column("primary_key", String(128), nullable=False),
    Column("secondary_key", String(128), nullable=False),
    Column("is_edge", Boolean, nullable=False),
    Column("managed_by", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("status_updated_at", Float, nullable=False),
    Column("connection_updated_at", Float),
    Column("last_activity_at", Float),
)

twins = Table(
    "hub_twins",
    metadata,
    Column("device_id", String(128), primary_key=True),
    Column("module_id", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("desired", JSON, nullable=False),
    Column("desired_version", Integer, nullable=False),
    Column("desired_metadata", JSON, nullable=False),
    Column("reported", JSON, nullable=False),
    Column("reported_version", Integer, nullable=False),
    Column("reported_metadata", JSON, nullable=False),
)

# What a client with clean_session=0 has subscribed to; the clients do not subscribe again when they reconnect.
sessions = Table(
    "hub_sessions",
    metadata,
    Column("device_id", String(128), primary_key=True),
    Column("module_id", String(128), primary_key=True),
    Column("subscriptions", JSON, nullable=False),
)

events = Table(
    "hub_events",
    metadata,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("device_id", String(128), nullable=False),
    Column("module_id", String(128)),
    Column("output", String(1024)),
    Column("enqueued_at", Float, nullable=False),
    Column("properties", JSON, nullable=False),
    Column("system_properties", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("delivery_id", String(64)),
    # NULLs are distinct: a message without a delivery id is never a repetition.
    UniqueConstraint("device_id", "delivery_id", name="hub_events_delivery"),
    Index("hub_events_device", "device_id", "sequence"),
    sqlite_autoincrement=True,
)
