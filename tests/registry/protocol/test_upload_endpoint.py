"""Pushing blobs. distribution-spec 1.1, "Pushing blobs"."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import Engine
from tests.contracts.worlds import World
from tests.registry.world import LOGIN_SERVER, Clock, code_of, push_blob, push_image

from sanderling.blobs import BlobStore
from sanderling.oci import Digest
from sanderling.registry import Registry, RegistryCredentials, Scope

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("world", ["files", "s3"], indirect=True)]

UPLOADS = "/v2/demo/digits/blobs/uploads/"
CONTENT = b"0123456789" * 100
DIGEST = Digest.of(CONTENT)
BLOB = f"/v2/demo/digits/blobs/{DIGEST}"


async def begin(client: httpx.AsyncClient) -> str:
    response = await client.post(UPLOADS)
    assert response.status_code == 202
    assert response.headers["range"] == "0-0"
    return response.headers["location"]


def leftovers(world: World) -> list[str]:
    """Return the uploads that are there, and what was left of writes."""
    parts = [name.split("/") for name in world.contents() if name.startswith(("uploads/", "temporary/"))]
    return sorted({"/".join(part[:2]) for part in parts})


async def test_a_blob_is_pushed_whole_with_post(client: httpx.AsyncClient, world: World) -> None:
    response = await client.post(UPLOADS, params={"digest": DIGEST}, content=CONTENT)
    assert response.status_code == 201
    assert response.headers["location"] == BLOB
    assert response.headers["docker-content-digest"] == DIGEST
    assert (await client.get(BLOB)).content == CONTENT
    assert leftovers(world) == []


async def test_a_blob_is_pushed_with_post_and_put(client: httpx.AsyncClient) -> None:
    location = await begin(client)
    response = await client.put(location, params={"digest": DIGEST}, content=CONTENT)
    assert (response.status_code, response.headers["location"]) == (201, BLOB)
    assert (await client.get(BLOB)).content == CONTENT
    assert (await client.get(location)).status_code == 404


async def test_a_blob_is_pushed_in_chunks_and_the_status_tells_how_far(client: httpx.AsyncClient) -> None:
    location = await begin(client)
    first = await client.patch(location, content=CONTENT[:600], headers={"Content-Range": "0-599"})
    assert (first.status_code, first.headers["range"]) == (202, "0-599")
    status = await client.get(first.headers["location"])
    assert (status.status_code, status.headers["range"]) == (204, "0-599")
    await client.patch(location, content=CONTENT[600:900], headers={"Content-Range": "600-899"})
    last = await client.put(
        location, params={"digest": DIGEST}, content=CONTENT[900:], headers={"Content-Range": "900-999"}
    )
    assert last.status_code == 201
    assert (await client.get(BLOB)).content == CONTENT


async def test_a_stream_without_content_range_goes_on_at_the_end(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield CONTENT[:500]
        yield CONTENT[500:]

    location = await begin(client)
    assert (await client.patch(location, content=pieces())).headers["range"] == "0-999"
    assert (await client.put(location, params={"digest": DIGEST})).status_code == 201


@pytest.mark.parametrize("content_range", ["599-698", "601-700", "0-99", "9-1", "x", "-5", "0-", "1" * 20 + "-2"])
async def test_a_chunk_out_of_order_is_refused_with_the_range_that_is_there(
    client: httpx.AsyncClient, content_range: str
) -> None:
    location = await begin(client)
    await client.patch(location, content=CONTENT[:600])
    refused = await client.patch(location, content=b"x" * 100, headers={"Content-Range": content_range})
    assert refused.status_code == 416
    assert code_of(refused) == "BLOB_UPLOAD_INVALID"
    assert (await client.get(location)).headers["range"] == "0-599"


async def test_a_chunk_out_of_order_is_told_where_to_go_on(client: httpx.AsyncClient) -> None:
    location = await begin(client)
    refused = await client.patch(location, content=b"x", headers={"Content-Range": "5-5"})
    assert refused.headers["location"] == location
    assert refused.headers["range"] == "0-0"
    at_the_end = await client.put(location, params={"digest": DIGEST}, content=b"x", headers={"Content-Range": "5-5"})
    assert at_the_end.status_code == 416
    assert (await client.get(location)).status_code == 204


async def test_a_range_that_does_not_fit_the_length_is_refused(client: httpx.AsyncClient) -> None:
    async def short() -> AsyncIterator[bytes]:
        yield b"ab"

    location = await begin(client)
    for content in (b"ab", short()):
        refused = await client.patch(location, content=content, headers={"Content-Range": "0-8"})
        assert (refused.status_code, code_of(refused)) == (400, "SIZE_INVALID")


async def test_a_cancelled_upload_is_gone(client: httpx.AsyncClient, world: World) -> None:
    location = await begin(client)
    await client.patch(location, content=CONTENT)
    assert (await client.delete(location)).status_code == 204
    for response in (await client.get(location), await client.delete(location), await client.patch(location)):
        assert (response.status_code, code_of(response)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert leftovers(world) == []


async def test_a_wrong_digest_is_refused_and_leaves_nothing(client: httpx.AsyncClient, world: World) -> None:
    wrong = Digest.of(b"else")
    whole = await client.post(UPLOADS, params={"digest": wrong}, content=CONTENT)
    put = await client.put(await begin(client), params={"digest": wrong}, content=CONTENT)
    for refused in (whole, put):
        assert (refused.status_code, code_of(refused)) == (400, "DIGEST_INVALID")
    assert (await client.get(f"/v2/demo/digits/blobs/{wrong}")).status_code == 404
    assert (await client.get(BLOB)).status_code == 404
    assert leftovers(world) == []


@pytest.mark.parametrize("digest", ["", "x", "sha256:..", "md5:" + "a" * 32, "sha256:" + "a" * 63])
async def test_what_is_no_digest_is_refused(client: httpx.AsyncClient, digest: str) -> None:
    location = await begin(client)
    for response in (
        await client.put(location, params={"digest": digest}),
        await client.post(UPLOADS, params={"digest": digest}),
        await client.post(UPLOADS, params={"mount": digest, "from": "demo/other"}),
    ):
        assert (response.status_code, code_of(response)) == (400, "DIGEST_INVALID")
    assert code_of(await client.put(location)) == "DIGEST_INVALID"
    assert (await client.get(location)).status_code == 204


async def test_sha512_is_verified_too(client: httpx.AsyncClient) -> None:
    digest = Digest.of(CONTENT, "sha512")
    response = await client.put(await begin(client), params={"digest": digest}, content=CONTENT)
    assert response.status_code == 201
    assert (await client.get(f"/v2/demo/digits/blobs/{digest}")).content == CONTENT


async def test_an_empty_blob_is_a_blob(client: httpx.AsyncClient) -> None:
    digest = await push_blob(client, b"")
    response = await client.get(f"/v2/demo/digits/blobs/{digest}")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "0")


async def test_an_upload_is_known_in_its_own_repository_only(client: httpx.AsyncClient) -> None:
    location = await begin(client)
    elsewhere = location.replace("demo/digits", "demo/other")
    assert (await client.get(elsewhere)).status_code == 404
    assert (await client.put(elsewhere, params={"digest": DIGEST}, content=CONTENT)).status_code == 404
    assert (await client.get(location)).status_code == 204


@pytest.mark.parametrize("upload", ["0" * 32, "..", "%2e%2e", "x" * 300, "%00"])
async def test_an_upload_that_never_was_is_unknown(client: httpx.AsyncClient, upload: str) -> None:
    assert (await client.get(UPLOADS + upload)).status_code == 404
    assert (await client.patch(UPLOADS + upload, content=b"x")).status_code == 404


async def test_an_upload_survives_a_restart(
    client: httpx.AsyncClient, admin: dict[str, str], engine: Engine, world: World, credentials: RegistryCredentials
) -> None:
    location = await begin(client)
    await client.patch(location, content=CONTENT[:700])
    reborn = Registry(engine, world.open(), credentials, LOGIN_SERVER).app()
    transport = httpx.ASGITransport(reborn)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://{LOGIN_SERVER}", headers=admin) as later:
        assert (await later.get(location)).headers["range"] == "0-699"
        await later.patch(location, content=CONTENT[700:], headers={"Content-Range": "700-999"})
        assert (await later.put(location, params={"digest": DIGEST})).status_code == 201
        assert (await later.get(BLOB)).content == CONTENT


async def test_a_blob_is_mounted_from_another_repository(client: httpx.AsyncClient) -> None:
    await push_blob(client, CONTENT, "demo/base")
    assert (await client.get(BLOB)).status_code == 404
    response = await client.post(UPLOADS, params={"mount": DIGEST, "from": "demo/base"})
    assert (response.status_code, response.headers["location"]) == (201, BLOB)
    assert (await client.get(BLOB)).content == CONTENT


async def test_a_blob_is_mounted_from_anywhere_that_may_be_pulled(client: httpx.AsyncClient) -> None:
    await push_blob(client, CONTENT, "demo/base")
    assert (await client.post(UPLOADS, params={"mount": DIGEST})).status_code == 201


@pytest.mark.parametrize("source", ["", "secret/base", "demo/none", "../x", "DEMO"])
async def test_what_cannot_be_mounted_becomes_an_upload(
    client: httpx.AsyncClient, registry: Registry, credentials: RegistryCredentials, source: str
) -> None:
    token = credentials.issue("other", [Scope.of("secret/*", "push")], 60)
    await client.post(
        "/v2/secret/base/blobs/uploads/",
        params={"digest": DIGEST},
        content=CONTENT,
        headers={"Authorization": f"Bearer {token}"},
    )
    response = await client.post(UPLOADS, params={"mount": DIGEST, "from": source})
    assert response.status_code == 202
    assert (await client.get(BLOB)).status_code == 404


async def test_a_blob_whose_bytes_are_lost_is_not_mounted(client: httpx.AsyncClient, blobs: BlobStore) -> None:
    await push_blob(client, CONTENT, "demo/base")
    await blobs.remove(DIGEST)
    assert (await client.post(UPLOADS, params={"mount": DIGEST, "from": "demo/base"})).status_code == 202


async def test_stale_uploads_are_ended(
    client: httpx.AsyncClient, registry: Registry, clock: Clock, world: World
) -> None:
    old = await begin(client)
    await asyncio.sleep(1.1)  # the times are the medium's own, and some keep whole seconds
    between = time.time()
    await asyncio.sleep(1.1)
    new = await begin(client)
    clock.now = between + 50
    assert await registry.end_stale_uploads(older_than_s=50) == 1
    assert (await client.get(old)).status_code == 404
    assert (await client.get(new)).status_code == 204
    assert len(leftovers(world)) == 1


async def test_pushing_an_image_twice_changes_nothing(client: httpx.AsyncClient) -> None:
    first, second = await push_image(client), await push_image(client)
    assert first.digest == second.digest
