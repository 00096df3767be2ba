"""Pushing, pulling and deleting manifests. distribution-spec 1.1."""

import json

import httpx
import pytest
from tests.registry.world import EACH_DATABASE, code_of, push_blob, push_image, put_manifest

from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, media_types

pytestmark = [pytest.mark.anyio, EACH_DATABASE]

MANIFESTS = "/v2/demo/digits/manifests/"


async def test_a_manifest_comes_back_byte_for_byte_by_tag_and_digest(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client, "1")
    pretty = json.dumps(json.loads(manifest.raw) | {"unknown": {"kept": True}}, indent=2).encode()
    response = await put_manifest(client, pretty, manifest.media_type, "2")
    digest = Digest.of(pretty)
    assert response.headers["docker-content-digest"] == digest
    assert response.headers["location"] == MANIFESTS + digest
    for reference in ("2", digest):
        get = await client.get(MANIFESTS + reference)
        assert (get.status_code, get.content) == (200, pretty)
        assert get.headers["content-type"] == media_types.OCI_MANIFEST
        head = await client.head(MANIFESTS + reference)
        assert head.headers == get.headers
        assert head.content == b""
    assert (await client.get(MANIFESTS + "1")).content == manifest.raw


async def test_a_tag_moves_to_the_manifest_pushed_last(client: httpx.AsyncClient) -> None:
    await push_image(client, "latest", layer=b"one")
    second = await push_image(client, "latest", layer=b"two")
    assert (await client.get(MANIFESTS + "latest")).content == second.raw


async def test_a_manifest_pushed_by_digest_must_have_it(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client)
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(manifest.raw, algorithm)
        assert (await put_manifest(client, manifest.raw, manifest.media_type, digest)).status_code == 201
        assert (await client.get(MANIFESTS + digest)).headers["docker-content-digest"] == digest
    refused = await put_manifest(client, manifest.raw, manifest.media_type, Digest.of(b"else"))
    assert (refused.status_code, code_of(refused)) == (400, "DIGEST_INVALID")


async def test_several_tags_come_with_one_push(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client)
    response = await put_manifest(client, manifest.raw, manifest.media_type, f"{manifest.digest}?tag=a&tag=b")
    assert response.headers.get_list("oci-tag") == ["a", "b"]
    assert (await client.get(MANIFESTS + "b")).content == manifest.raw


async def test_a_manifest_that_names_missing_blobs_is_refused_and_leaves_nothing(client: httpx.AsyncClient) -> None:
    config = Descriptor(media_types.OCI_CONFIG, await push_blob(client, b"{}"), 2)
    missing = Descriptor(media_types.OCI_LAYER, Digest.of(b"missing"), 7)
    for manifest in (Manifest.build(config, [missing]), Manifest.build(missing, [])):
        refused = await put_manifest(client, manifest.raw, manifest.media_type, "1")
        assert (refused.status_code, code_of(refused)) == (404, "MANIFEST_BLOB_UNKNOWN")
        assert missing.digest in refused.text
    assert (await client.get(MANIFESTS + "1")).status_code == 404


async def test_a_blob_of_another_repository_is_missing_here(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client)
    refused = await put_manifest(client, manifest.raw, manifest.media_type, "1", "demo/other")
    assert code_of(refused) == "MANIFEST_BLOB_UNKNOWN"


async def test_a_layer_that_is_kept_elsewhere_may_be_missing(client: httpx.AsyncClient) -> None:
    config = Descriptor(media_types.OCI_CONFIG, await push_blob(client, b"{}"), 2)
    foreign = Descriptor(media_types.OCI_LAYER, Digest.of(b"far"), 3, urls=("https://example.com/far",))
    manifest = Manifest.build(config, [foreign])
    assert (await put_manifest(client, manifest.raw, manifest.media_type, "1")).status_code == 201


async def test_a_lying_size_is_refused(client: httpx.AsyncClient) -> None:
    manifest = Manifest.build(Descriptor(media_types.OCI_CONFIG, await push_blob(client, b"{}"), 3), [])
    refused = await put_manifest(client, manifest.raw, manifest.media_type, "1")
    assert (refused.status_code, code_of(refused)) == (400, "MANIFEST_INVALID")


async def test_an_index_needs_its_manifests(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client)
    index = Index.build([manifest.descriptor(Platform("linux", "arm64"))])
    assert (await put_manifest(client, index.raw, index.media_type, "multi")).status_code == 201
    assert (await client.get(MANIFESTS + "multi")).headers["content-type"] == media_types.OCI_INDEX
    nested = Index.build([index.descriptor()])
    assert (await put_manifest(client, nested.raw, nested.media_type, "nested")).status_code == 201
    missing = Index.build([Descriptor(media_types.OCI_MANIFEST, Digest.of(b"x"), 1)])
    refused = await put_manifest(client, missing.raw, missing.media_type, "1")
    assert code_of(refused) == "MANIFEST_BLOB_UNKNOWN"


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (b"", media_types.OCI_MANIFEST),
        (b"{}", media_types.OCI_MANIFEST),
        (b"[" * 5000, media_types.OCI_MANIFEST),
        (b'{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+json"),
        (b'{"schemaVersion":2,"mediaType":"text/html"}', "text/html"),
        (b'{"schemaVersion":2,"manifests":[]}', media_types.OCI_MANIFEST),
    ],
)
async def test_what_is_no_manifest_is_refused(client: httpx.AsyncClient, raw: bytes, media_type: str) -> None:
    refused = await put_manifest(client, raw, media_type, "1")
    assert (refused.status_code, code_of(refused)) == (400, "MANIFEST_INVALID")


async def test_a_manifest_of_more_than_4_mib_is_refused(client: httpx.AsyncClient) -> None:
    refused = await put_manifest(client, b" " * (4 * 1024 * 1024 + 1), media_types.OCI_MANIFEST, "1")
    assert (refused.status_code, code_of(refused)) == (413, "SIZE_INVALID")


async def test_accept_is_obeyed(client: httpx.AsyncClient) -> None:
    await push_image(client)
    for accept in (
        "*/*",
        "application/*",
        media_types.OCI_MANIFEST,
        f"text/html, {media_types.OCI_MANIFEST};q=0.5",
        "",
    ):
        assert (await client.get(MANIFESTS + "1", headers={"Accept": accept})).status_code == 200
    refused = await client.get(MANIFESTS + "1", headers={"Accept": media_types.DOCKER_MANIFEST})
    assert (refused.status_code, code_of(refused)) == (404, "MANIFEST_UNKNOWN")
    assert "Accept" in refused.text


async def test_a_client_that_has_it_gets_no_body(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client)
    response = await client.get(MANIFESTS + "1", headers={"If-None-Match": f'"{manifest.digest}"'})
    assert (response.status_code, response.content) == (304, b"")


async def test_deleting_a_tag_leaves_the_manifest(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client, "1")
    assert (await client.delete(MANIFESTS + "1")).status_code == 202
    assert (await client.get(MANIFESTS + "1")).status_code == 404
    assert (await client.get(MANIFESTS + manifest.digest)).status_code == 200
    assert code_of(await client.delete(MANIFESTS + "1")) == "MANIFEST_UNKNOWN"


async def test_deleting_a_manifest_takes_its_tags(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client, "1")
    await put_manifest(client, manifest.raw, manifest.media_type, "2")
    assert (await client.delete(MANIFESTS + manifest.digest)).status_code == 202
    for reference in ("1", "2", manifest.digest):
        assert (await client.get(MANIFESTS + reference)).status_code == 404
    assert (await client.get("/v2/demo/digits/tags/list")).json()["tags"] == []
    assert code_of(await client.delete(MANIFESTS + manifest.digest)) == "MANIFEST_UNKNOWN"
    await push_image(client, "1")
    assert (await client.get(MANIFESTS + "1")).status_code == 200


@pytest.mark.parametrize("reference", [".INVALID", "a" * 129, "none", "%00", "a b", str(Digest.of(b"none"))])
async def test_a_manifest_that_is_not_here_is_unknown(client: httpx.AsyncClient, reference: str) -> None:
    for response in (await client.get(MANIFESTS + reference), await client.delete(MANIFESTS + reference)):
        assert (response.status_code, code_of(response)) == (404, "MANIFEST_UNKNOWN")


async def test_a_tag_has_a_grammar(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client)
    for tag in (".x", "a" * 129, "a%20b"):
        refused = await put_manifest(client, manifest.raw, manifest.media_type, tag)
        assert (refused.status_code, code_of(refused)) == (400, "MANIFEST_INVALID")
    refused = await put_manifest(client, manifest.raw, manifest.media_type, "sha256:1")
    assert code_of(refused) == "DIGEST_INVALID"


async def test_a_config_that_cannot_be_read_is_kept_all_the_same(client: httpx.AsyncClient) -> None:
    config = Descriptor(media_types.OCI_CONFIG, await push_blob(client, b"no JSON"), 7)
    manifest = Manifest.build(config, [])
    assert (await put_manifest(client, manifest.raw, manifest.media_type, "1")).status_code == 201


async def test_too_many_tags_at_once_are_refused(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client)
    query = "&".join(f"tag={n}" for n in range(101))
    refused = await put_manifest(client, manifest.raw, manifest.media_type, f"{manifest.digest}?{query}")
    assert (refused.status_code, code_of(refused)) == (400, "MANIFEST_INVALID")


async def test_an_artifact_may_have_a_subject_that_comes_later(client: httpx.AsyncClient) -> None:
    config = Descriptor(media_types.OCI_EMPTY, await push_blob(client, b"{}"), 2)
    subject = Descriptor(media_types.OCI_MANIFEST, Digest.of(b"later"), 5)
    artifact = Manifest.build(config, [config], artifact_type="application/spdx+json", subject=subject)
    response = await put_manifest(client, artifact.raw, artifact.media_type, artifact.digest)
    assert (response.status_code, response.headers["oci-subject"]) == (201, subject.digest)
