"""What a workspace and a model version are. Both are values: a registered version never changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sanderling.oci import Digest


@dataclass(frozen=True, slots=True)
class WorkspaceInfo:
    """A workspace, and how many model versions it holds."""

    name: str
    created_at: datetime
    model_count: int


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: its path below the model's folder, and its content."""

    path: str
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable version of a model. Files are sorted by path."""

    workspace: str
    name: str
    version: int
    description: str
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    created_at: datetime
    files: tuple[ModelFile, ...]

    @property
    def id(self) -> str:
        """`name:version`, as Azure ML writes it."""
        return f"{self.name}:{self.version}"

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)
