"""A hub in a temporary folder, and what it takes to talk to it."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine
from starlette.applications import Starlette

from sanderling.errors import NotFound
from sanderling.hub import ALL_RIGHTS, Hub
from sanderling.hub.access import REGISTRY_READ
from sanderling.iot import ConnectionString, sas
from tests.hub.world import Clock, make_engine


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path / "hub.db")
    yield engine
    engine.dispose()


def check_image(reference: str) -> None:
    if "missing" in reference:
        raise NotFound(f"image {reference!r} not found; was it pushed?")


@pytest.fixture
def hub(engine: Engine, clock: Clock) -> Iterator[Hub]:
    rights = {"owner": ALL_RIGHTS, "reader": {REGISTRY_READ}}
    hub = Hub(engine, check_image, rights.get, clock=clock)
    yield hub
    hub.close()


@pytest.fixture
async def rest(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    """The hub's REST API, with the owner's token."""
    transport = httpx.ASGITransport(Starlette(routes=hub.rest_routes()))
    headers = {"Authorization": "Bearer owner"}
    async with httpx.AsyncClient(transport=transport, base_url="https://hub", headers=headers) as client:
        yield client


@pytest.fixture
def policy_token(hub: Hub, clock: Clock) -> Callable[[str], str]:
    def make(policy: str) -> str:
        key = ConnectionString.parse(hub.connection_string(policy, "localhost:8443")).shared_access_key
        assert key is not None
        return sas.build("localhost:8443", key, int(clock()) + 60, policy)

    return make
