"""One registry for the clients of a process, and a folder with its authority as clients want it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registry.clients.site import Site, running_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("registry")) as site:
        yield site


@pytest.fixture(scope="session")
def cert_dir(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--cert-dir` takes: every `*.crt` in it is an authority to trust."""
    folder = tmp_path_factory.mktemp("certs")
    (folder / "ca.crt").write_bytes(site.ca.read_bytes())
    return folder


@pytest.fixture
def certs(cert_dir: Path) -> str:
    """The option of podman, buildah and skopeo."""
    return f"--cert-dir={cert_dir}"


@pytest.fixture
def name(site: Site) -> str:
    """A repository that no other test has."""
    return f"{site.address}/demo/{secrets.token_hex(4)}"
