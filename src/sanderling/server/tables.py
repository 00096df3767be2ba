"""The server's own tables: who may call the API."""

from sqlalchemy import Column, Float, Index, MetaData, String, Table

metadata = MetaData()

# Only hashes of tokens and codes are kept: a copy of the database lets nobody in.
tokens = Table(
    "server_tokens",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),  # owner | workspace | session
    Column("workspace", String(32), nullable=True),  # None: every workspace
    Column("created_at", Float, nullable=False),  # seconds since 1970
    Column("expires_at", Float, nullable=True),  # None: until it is revoked
    Index("server_tokens_by_end", "expires_at"),
)

sign_in_codes = Table(
    "server_sign_in_codes",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("workspace", String(32), nullable=True),
    Column("expires_at", Float, nullable=False),
)
