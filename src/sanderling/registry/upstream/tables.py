"""The tables of upstreams, on the registry's metadata.

upstreams            the rules; passwords sealed
upstream_tags        when a tag here was last seen at its upstream
upstream_downloads   the upload that a blob on its way comes into, so that a restart goes on with it
"""

from sqlalchemy import Boolean, Column, Double, LargeBinary, String, Table, Text

from sanderling.registry.tables import _DIGEST, _NAME, metadata

upstreams = Table(
    "registry_upstreams",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("registry", String(320), nullable=False),
    Column("username", Text, nullable=False),
    Column("password", LargeBinary, nullable=False),  # sealed; empty for nobody
    Column("ttl_s", Double, nullable=False),
    Column("is_plain_http", Boolean, nullable=False),
    Column("ca_pem", Text, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("is_mirror", Boolean, nullable=False),
    Column("is_shared", Boolean, nullable=False),
    Column("allowed", Text, nullable=False),  # JSON list of patterns
    Column("created_at", Double, nullable=False),
)

upstream_tags = Table(
    "registry_upstream_tags",
    metadata,
    Column("repository", _NAME, primary_key=True),
    Column("tag", _NAME, primary_key=True),
    Column("checked_at", Double, nullable=False),
)

upstream_downloads = Table(
    "registry_upstream_downloads",
    metadata,
    Column("repository", _NAME, primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("upload_id", String(64), nullable=False),
)
