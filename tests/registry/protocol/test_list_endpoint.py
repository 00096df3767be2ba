"""Tags, catalogue and referrers. distribution-spec 1.1, "Content Discovery"."""

import re

import httpx
import pytest
from tests.registry.world import EACH_DATABASE, basic, code_of, push_blob, push_image, put_manifest

from sanderling.oci import Descriptor, Digest, Index, Manifest, media_types
from sanderling.registry import RegistryCredentials, Scope
from sanderling.registry.content import listings

pytestmark = [pytest.mark.anyio, EACH_DATABASE]

TAGS = "/v2/demo/digits/tags/list"


async def all_pages(client: httpx.AsyncClient, path: str, name: str) -> list[list[str]]:
    pages = []
    while path:
        response = await client.get(path)
        assert response.status_code == 200
        pages.append(response.json()[name])
        link = re.fullmatch(r'<(.+)>; rel="next"', response.headers.get("link", ""))
        path = link[1] if link else ""
    return pages


async def test_tags_are_listed_in_the_order_of_their_bytes(client: httpx.AsyncClient) -> None:
    for tag in ("b", "a", "B", "_", "10", "9"):
        await push_image(client, tag)
    assert (await client.get(TAGS)).json() == {"name": "demo/digits", "tags": ["10", "9", "B", "_", "a", "b"]}


async def test_tags_come_in_pages(client: httpx.AsyncClient) -> None:
    for tag in "abcde":
        await push_image(client, tag)
    assert await all_pages(client, f"{TAGS}?n=2", "tags") == [["a", "b"], ["c", "d"], ["e"]]
    assert await all_pages(client, f"{TAGS}?n=5", "tags") == [["a", "b", "c", "d", "e"]]
    assert await all_pages(client, f"{TAGS}?n=0", "tags") == [[]]
    assert await all_pages(client, f"{TAGS}?last=c", "tags") == [["d", "e"]]
    assert await all_pages(client, f"{TAGS}?n=999999999999999999&last=zzz", "tags") == [[]]
    assert await all_pages(client, f"{TAGS}?n={'9' * 30}&last=c", "tags") == [["d", "e"]]
    assert await all_pages(client, f"{TAGS}?n=", "tags") == [["a", "b", "c", "d", "e"]]


@pytest.mark.parametrize("n", ["-1", "x", " ", "1.5", "٣"])
async def test_a_page_has_a_number_of_results(client: httpx.AsyncClient, n: str) -> None:
    await push_image(client)
    refused = await client.get(TAGS, params={"n": n})
    assert (refused.status_code, code_of(refused)) == (400, "UNSUPPORTED")
    refused = await client.get("/v2/_catalog", params={"n": n})
    assert (refused.status_code, code_of(refused)) == (400, "PAGINATION_NUMBER_INVALID")


async def test_a_repository_that_is_not_here_has_no_tags(client: httpx.AsyncClient) -> None:
    refused = await client.get("/v2/demo/none/tags/list")
    assert (refused.status_code, code_of(refused)) == (404, "NAME_UNKNOWN")


async def test_the_catalogue_shows_what_may_be_pulled(
    client: httpx.AsyncClient, credentials: RegistryCredentials
) -> None:
    everything = {"Authorization": "Bearer " + credentials.issue("all", [Scope.of("*", "pull", "push")], 60)}
    for repository in ("demo/b", "demo/a", "demo2/c", "dem"):
        await push_image(client_with(client, everything), repository=repository)
    await push_blob(client, b"only a blob", "demo/without-manifest")
    assert await all_pages(client, "/v2/_catalog", "repositories") == [["demo/a", "demo/b"]]
    assert await all_pages(client, "/v2/_catalog?n=1", "repositories") == [["demo/a"], ["demo/b"]]
    names = (await client.get("/v2/_catalog", headers=everything)).json()["repositories"]
    assert names == ["dem", "demo/a", "demo/b", "demo2/c"]
    one = basic("token", credentials.issue("one", [Scope.of("demo/a", "pull")], 60))
    assert (await client.get("/v2/_catalog", headers=one)).json() == {"repositories": ["demo/a"]}


def client_with(client: httpx.AsyncClient, headers: dict[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=client._transport, base_url=client.base_url, headers=headers)


async def test_referrers_are_an_index_of_what_is_about_the_subject(client: httpx.AsyncClient) -> None:
    image = await push_image(client)
    config = Descriptor("application/x-config", await push_blob(client, b"{}"), 2)
    typed = Manifest.build(config, [], {"k": "v"}, artifact_type="application/spdx+json", subject=image.descriptor())
    untyped = Manifest.build(config, [], subject=image.descriptor())
    index = Index.build([], artifact_type="application/x-index", subject=image.descriptor())
    for referrer in (typed, untyped, index):
        await put_manifest(client, referrer.raw, referrer.media_type, referrer.digest)
    path = f"/v2/demo/digits/referrers/{image.digest}"
    response = await client.get(path)
    assert response.headers["content-type"] == media_types.OCI_INDEX
    found = {d.digest: d for d in Index.parse(response.content).manifests}
    assert set(found) == {typed.digest, untyped.digest, index.digest}
    assert found[typed.digest].annotations == {"k": "v"}
    assert [found[m.digest].artifact_type for m in (typed, untyped, index)] == [
        "application/spdx+json", "application/x-config", "application/x-index",
    ]  # fmt: skip
    filtered = await client.get(path, params={"artifactType": "application/spdx+json"})
    assert [d.digest for d in Index.parse(filtered.content).manifests] == [typed.digest]
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    await client.delete(f"/v2/demo/digits/manifests/{typed.digest}")
    assert Index.parse((await client.get(path, params={"artifactType": typed.artifact_type})).content).manifests == ()


async def test_many_referrers_come_in_pages(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "_MAX_REFERRERS_BYTES", 1100)
    subject = Descriptor(media_types.OCI_MANIFEST, Digest.of(b"later"), 5)
    config = Descriptor(media_types.OCI_EMPTY, await push_blob(client, b"{}"), 2)
    pushed = [Manifest.build(config, [], {"n": str(n)}, subject=subject) for n in range(5)]
    for referrer in pushed:
        await put_manifest(client, referrer.raw, referrer.media_type, referrer.digest)
    path = f"/v2/demo/digits/referrers/{subject.digest}"
    pages = await all_pages(client, path, "manifests")
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {entry["digest"] for page in pages for entry in page} == {m.digest for m in pushed}  # type: ignore[index]


async def test_a_subject_without_referrers_has_an_empty_index(client: httpx.AsyncClient) -> None:
    response = await client.get(f"/v2/demo/none/referrers/{Digest.of(b'x')}")
    assert (response.status_code, response.json()["manifests"]) == (200, [])
    assert code_of(await client.get("/v2/demo/none/referrers/x")) == "DIGEST_INVALID"
