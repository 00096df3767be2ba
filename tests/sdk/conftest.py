from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sanderling.sdk.client import Client
from sanderling.sdk.workspace import Workspace


@pytest.fixture
def client(up: Any) -> Iterator[Client]:
    with Client(up.url, token=up.token, ca_file=up.ca_file) as client:
        yield client


@pytest.fixture
def workspace(client: Client) -> Workspace:
    """A workspace of the test's own."""
    return Workspace.create(f"w-{uuid4().hex[:8]}", client=client)


@pytest.fixture
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty config folder, and no variable that overrides it."""
    folder = tmp_path / "config"
    monkeypatch.setenv("SANDERLING_CONFIG_DIR", str(folder))
    monkeypatch.delenv("SANDERLING_TOKEN", raising=False)
    monkeypatch.delenv("SANDERLING_CA", raising=False)
    return folder
