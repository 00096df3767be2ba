from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")
