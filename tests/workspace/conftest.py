from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sanderling.blobs import FileBlobs
from sanderling.oci import Digest
from sanderling.server.database import open_database
from sanderling.workspace import Workspaces


class World:
    """Workspaces over a true database and a true store, with one workspace 'demo'."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.blobs = FileBlobs(folder / "blobs")
        self.workspaces = Workspaces(engine, self.blobs, self.tick)
        self.workspaces.create("demo")

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def send(self, content: bytes, workspace: str = "demo") -> Digest:
        digest = self.blobs.put(content)
        self.workspaces.admit(workspace, digest)
        return digest

    def register(self, name: str, tags: dict[str, str] | None = None, content: bytes = b"model") -> int:
        files = {"model.pkl": self.send(content)}
        return self.workspaces.register("demo", name, files, tags or {}, {}, "").version


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = open_database(tmp_path / "test.db")
    yield World(engine, tmp_path)
    engine.dispose()
