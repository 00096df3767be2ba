"""One registry for all tests of a file, behind a true server; each test has repositories of its own."""

from collections.abc import Iterator

import httpx
import pytest
from tests.registry.conformance.repository import Repository
from tests.registry.serving import served
from tests.registry.world import basic


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The admin user of `demo`."""
    with served(tmp_path_factory.mktemp("registry")) as (address, credentials):
        user = credentials.set_admin_enabled("demo", True)
        headers = basic("demo", user.passwords[0])
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=30) as client:
            yield client


@pytest.fixture
def repository(http: httpx.Client) -> Repository:
    return Repository(http)


@pytest.fixture
def other(http: httpx.Client) -> Repository:
    return Repository(http)
