"""The tables of workspaces, models and what was uploaded for them.

A version number is taken from `workspace_model_names` and never given twice, not even
after its model is deleted: an image label `digits:2` must mean one thing for ever.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

_WORKSPACE = "workspace_workspaces.name"
_MODEL = "workspace_models.id"

workspaces = Table(
    "workspace_workspaces",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("created_at", Float, nullable=False),  # seconds since 1970
)

# Which content each workspace has proved to hold by sending all of its bytes.
uploads = Table(
    "workspace_uploads",
    metadata,
    Column("workspace", ForeignKey(_WORKSPACE), primary_key=True),
    Column("digest", String(140), primary_key=True),
    Column("created_at", Float, nullable=False),
)

model_names = Table(
    "workspace_model_names",
    metadata,
    Column("workspace", ForeignKey(_WORKSPACE), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("last_version", Integer, nullable=False),
)

models = Table(
    "workspace_models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("workspace", ForeignKey(_WORKSPACE), nullable=False),
    Column("name", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("workspace", "name", "version"),
)

model_labels = Table(
    "workspace_model_labels",
    metadata,
    Column("model_id", ForeignKey(_MODEL, ondelete="CASCADE"), primary_key=True),
    Column("kind", String(8), primary_key=True),  # tag | property
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Index("workspace_model_labels_by_key", "kind", "key"),
)

model_files = Table(
    "workspace_model_files",
    metadata,
    Column("model_id", ForeignKey(_MODEL, ondelete="CASCADE"), primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("digest", String(140), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
)
