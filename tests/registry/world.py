"""What tests of the registry make their world of: an engine, a clock, callers, images."""

import base64
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, Engine, create_engine, event

from sanderling.oci import Descriptor, Digest, Manifest, canonical_json, media_types

LOGIN_SERVER = "localhost:8443"

# For tests whose SQL matters: every test on SQLite, and on a true PostgreSQL.
EACH_DATABASE = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


class Clock:
    """Time that goes on only when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def make_engine(path: Path) -> Engine:
    """Return an engine with the options that the server gives, but for the disk's own cache."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _options(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "busy_timeout=10000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def seal(secret: bytes) -> bytes:
    """Stand in for the server's sealing: reversible, and not the plain text."""
    return b"sealed:" + secret[::-1]


def unseal(sealed: bytes) -> bytes:
    assert sealed.startswith(b"sealed:")
    return sealed.removeprefix(b"sealed:")[::-1]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def code_of(response: httpx.Response) -> str:
    """Return the code of the one error in *response*."""
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json()["errors"]
    assert error["message"]
    return str(error["code"])


async def push_blob(client: httpx.AsyncClient, content: bytes, repository: str = "demo/digits") -> Digest:
    digest = Digest.of(content)
    response = await client.post(f"/v2/{repository}/blobs/uploads/", params={"digest": digest}, content=content)
    assert response.status_code == 201, response.text
    return digest


async def push_image(
    client: httpx.AsyncClient, reference: str = "1", repository: str = "demo/digits", layer: bytes = b"layer"
) -> Manifest:
    """Push a small linux/arm64 image; return its manifest."""
    config = canonical_json(
        {
            "os": "linux",
            "architecture": "arm64",
            "created": "1970-01-01T00:00:00Z",
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]},
        }
    )
    manifest = Manifest.build(
        Descriptor(media_types.OCI_CONFIG, await push_blob(client, config, repository), len(config)),
        [Descriptor(media_types.OCI_LAYER, await push_blob(client, layer, repository), len(layer))],
    )
    response = await put_manifest(client, manifest.raw, manifest.media_type, reference, repository)
    assert response.status_code == 201, response.text
    return manifest


async def put_manifest(
    client: httpx.AsyncClient, raw: bytes, media_type: str, reference: str, repository: str = "demo/digits"
) -> httpx.Response:
    return await client.put(
        f"/v2/{repository}/manifests/{reference}", content=raw, headers={"Content-Type": media_type}
    )
