"""Pulling and deleting blobs. distribution-spec 1.1, "Pulling blobs"."""

import httpx
import pytest
from tests.registry.world import code_of, push_blob

from sanderling.blobs import BlobStore
from sanderling.oci import Digest

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("world", ["files", "s3"], indirect=True)]

CONTENT = bytes(range(256)) * 4000
DIGEST = Digest.of(CONTENT)
BLOB = f"/v2/demo/digits/blobs/{DIGEST}"


@pytest.fixture(autouse=True)
async def pushed(client: httpx.AsyncClient) -> None:
    await push_blob(client, CONTENT)


async def test_head_and_get_agree(client: httpx.AsyncClient) -> None:
    head, get = await client.head(BLOB), await client.get(BLOB)
    assert head.status_code == get.status_code == 200
    assert (head.content, get.content) == (b"", CONTENT)
    assert head.headers == get.headers
    assert get.headers["docker-content-digest"] == DIGEST
    assert get.headers["content-length"] == str(len(CONTENT))
    assert get.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", CONTENT[:1]),
        ("bytes=10-19", CONTENT[10:20]),
        ("bytes=1000000-", CONTENT[1_000_000:]),
        ("bytes=-5", CONTENT[-5:]),
        ("bytes=-99999999", CONTENT),
        ("bytes=5-99999999999", CONTENT[5:]),
    ],
)
async def test_a_range_is_a_part(client: httpx.AsyncClient, header: str, expected: bytes) -> None:
    response = await client.get(BLOB, headers={"Range": header})
    assert response.status_code == 206
    assert response.content == expected
    start = CONTENT.rindex(expected) if header.startswith("bytes=-") else int(header[6:].split("-")[0])
    assert response.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(CONTENT)}"
    assert response.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize(
    "header", ["bytes=1024000-", "bytes=9999999-99999999", "bytes=-0", "bytes=5-2", "bytes=" + "9" * 5000 + "-"]
)
async def test_a_range_with_nothing_in_it_is_refused_with_the_size(client: httpx.AsyncClient, header: str) -> None:
    response = await client.get(BLOB, headers={"Range": header})
    assert (response.status_code, code_of(response)) == (416, "SIZE_INVALID")
    assert response.headers["content-range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("header", ["bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=--5", "x"])
async def test_a_range_that_is_not_understood_is_the_whole(client: httpx.AsyncClient, header: str) -> None:
    response = await client.get(BLOB, headers={"Range": header})
    assert (response.status_code, response.content) == (200, CONTENT)


async def test_a_client_that_has_it_gets_no_body(client: httpx.AsyncClient) -> None:
    etag = (await client.head(BLOB)).headers["etag"]
    assert (await client.get(BLOB, headers={"If-None-Match": etag})).status_code == 304
    assert (await client.get(BLOB, headers={"If-None-Match": '"x"'})).status_code == 200
    assert (await client.get(BLOB, headers={"Range": "bytes=0-1", "If-Range": '"x"'})).status_code == 200
    assert (await client.get(BLOB, headers={"Range": "bytes=0-1", "If-Range": etag})).status_code == 206


async def test_a_blob_is_not_visible_in_another_repository(client: httpx.AsyncClient) -> None:
    response = await client.get(BLOB.replace("digits", "other"))
    assert (response.status_code, code_of(response)) == (404, "BLOB_UNKNOWN")


async def test_a_deleted_blob_is_gone_from_its_repository_alone(client: httpx.AsyncClient) -> None:
    await push_blob(client, CONTENT, "demo/other")
    assert (await client.delete(BLOB)).status_code == 202
    assert (await client.get(BLOB)).status_code == 404
    again = await client.delete(BLOB)
    assert (again.status_code, code_of(again)) == (404, "BLOB_UNKNOWN")
    assert (await client.get(BLOB.replace("digits", "other"))).content == CONTENT


async def test_a_blob_whose_bytes_are_lost_is_not_found(client: httpx.AsyncClient, blobs: BlobStore) -> None:
    await blobs.remove(DIGEST)
    assert (await client.get(BLOB)).status_code == 404


@pytest.mark.parametrize("digest", ["sha256:1", "sha1:" + "a" * 40, "sha256:" + "A" * 64, "latest", "%00"])
async def test_what_is_no_digest_is_refused(client: httpx.AsyncClient, digest: str) -> None:
    response = await client.get(f"/v2/demo/digits/blobs/{digest}")
    assert (response.status_code, code_of(response)) == (400, "DIGEST_INVALID")
