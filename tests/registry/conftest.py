"""A registry over a true database and true files, and a caller with rights."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import URL, Engine, create_engine
from tests import postgresql
from tests.contracts.worlds import S3, Files, World
from tests.registry.world import LOGIN_SERVER, Clock, basic, make_engine, seal, unseal
from tests.s3 import S3Server, s3_server

from sanderling.blobs import BlobStore
from sanderling.registry import Registry, RegistryCredentials


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[URL]:
    programs = postgresql.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    with postgresql.running(programs) as url:
        yield url


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """`sqlite`; a file of tests for both says `pytestmark = EACH_DATABASE`."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def engine(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    if database == "postgresql":
        engine = create_engine(request.getfixturevalue("postgresql_url"), pool_size=16, max_overflow=16)
        postgresql.clear(engine)
    else:
        engine = make_engine(tmp_path / "sanderling.db")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """The medium beneath: a folder, unless the test is parametrized with "s3"."""
    if getattr(request, "param", "files") == "s3":
        return S3(request.getfixturevalue("s3"), f"site/{uuid.uuid4().hex}")
    return Files(tmp_path / "blobs")


@pytest.fixture
def blobs(world: World) -> BlobStore:
    return world.open()


@pytest.fixture
def credentials(engine: Engine, clock: Clock) -> RegistryCredentials:
    return RegistryCredentials(engine, seal, unseal, clock=clock, monotonic=clock)


@pytest.fixture
def registry(engine: Engine, blobs: BlobStore, credentials: RegistryCredentials, clock: Clock) -> Registry:
    return Registry(engine, blobs, credentials, LOGIN_SERVER, clock=clock)


@pytest.fixture
def admin(credentials: RegistryCredentials) -> dict[str, str]:
    """Headers of the admin user of the workspace `demo`."""
    user = credentials.set_admin_enabled("demo", True)
    return basic(user.username, user.passwords[0])


@pytest.fixture
async def anonymous(registry: Registry) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(registry.app())
    async with httpx.AsyncClient(transport=transport, base_url=f"https://{LOGIN_SERVER}") as client:
        yield client


@pytest.fixture
async def client(registry: Registry, admin: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """The admin user of `demo`, signed in."""
    transport = httpx.ASGITransport(registry.app())
    async with httpx.AsyncClient(transport=transport, base_url=f"https://{LOGIN_SERVER}", headers=admin) as client:
        yield client
