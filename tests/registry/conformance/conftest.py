"""One `sanderling registry serve` for the tests of a file, as a user starts it; each test has its own repositories."""

from collections.abc import Iterator

import httpx
import pytest
from tests.registry.conformance.repository import Repository
from tests.registry_process import running_registry


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with running_registry(tmp_path_factory.mktemp("registry") / "root", "--http") as registry:
        with registry.client(registry.basic) as client:
            yield client
        assert "Traceback" not in registry.log.read_text()


@pytest.fixture
def repository(http: httpx.Client) -> Repository:
    return Repository(http)


@pytest.fixture
def other(http: httpx.Client) -> Repository:
    return Repository(http)
