"""Garbage in a bucket of a true S3 server, which has its own clock."""

import time

import httpx
import pytest
from tests.contracts.worlds import World
from tests.registry.space.world import DAY, collect
from tests.registry.world import Clock, push_blob, push_image

from sanderling.blobs import BlobStore
from sanderling.oci import Digest
from sanderling.registry import Registry

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("world", ["s3"], indirect=True)]

CONTENT = b"a layer that nobody names"
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = time.time()
    return clock


@pytest.fixture
def blobs(world: World) -> BlobStore:
    return world.open()


async def test_what_nobody_names_goes_and_an_image_stays(
    client: httpx.AsyncClient, registry: Registry, blobs: BlobStore, clock: Clock, world: World
) -> None:
    await push_blob(client, CONTENT)
    manifest = await push_image(client, layer=b"a layer that an image names")
    assert (await collect(registry)).gone == ()
    clock.now += DAY + 60
    assert {one.reference for one in (await collect(registry)).gone} == {DIGEST}
    assert await blobs.stat(DIGEST) is None
    for part in (manifest.config, *manifest.layers):
        assert (await client.get(f"/v2/demo/digits/blobs/{part.digest}")).status_code == 200
    assert len(world.contents()) == 2


async def test_uploads_that_nobody_goes_on_with_end(
    client: httpx.AsyncClient, registry: Registry, clock: Clock, world: World
) -> None:
    location = (await client.post("/v2/demo/digits/blobs/uploads/")).headers["location"]
    await client.patch(location, content=CONTENT)
    assert await registry.end_stale_uploads(older_than_s=DAY) == 0
    assert (await client.get(location)).status_code == 204
    clock.now += 2 * DAY
    assert await registry.end_stale_uploads(older_than_s=DAY) == 1
    assert (await client.get(location)).status_code == 404
    assert world.contents() == []
