"""The worlds that every store of blobs is tested in."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.worlds import S3, Files, Memory, World
from tests.s3 import S3Server, s3_server

from sanderling.blobs import BlobStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["files", "s3", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    match request.param:
        case "files":
            return Files(tmp_path / "blobs")
        case "s3":
            return S3(request.getfixturevalue("s3"), f"site/{uuid.uuid4().hex}")
        case _:
            return Memory()


@pytest.fixture
def blobs(world: World) -> BlobStore:
    return world.open()
