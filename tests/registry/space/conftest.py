"""A registry whose store goes by the test's clock."""

from pathlib import Path

import pytest
from tests.registry.conftest import admin, anonymous, client, clock, credentials, engine, registry
from tests.registry.world import Clock

from sanderling.blobs import FileBlobs

__all__ = ["admin", "anonymous", "client", "clock", "credentials", "engine", "registry"]


@pytest.fixture
def blobs(tmp_path: Path, clock: Clock) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs", clock)
