import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.registry.upstream.world import Cache, Source, caching, serving
from tests.registry.world import Clock, code_of

from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, media_types
from sanderling.registry import Upstream

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024


def upstream(address: str, name: str = "hub", **options: object) -> Upstream:
    return Upstream(name, address, is_plain_http=True, **options)  # type: ignore[arg-type]


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    made = Source()
    async with serving(made) as made.address:
        yield made


@pytest.fixture
async def cache(tmp_path: Path, source: Source, clock: Clock) -> AsyncIterator[Cache]:
    async with caching(tmp_path / "cache", upstream(source.address), clock=clock) as made:
        yield made


async def test_an_image_is_pulled_through_and_then_needs_no_upstream(source: Source, cache: Cache) -> None:
    layers = [os.urandom(3 * MIB), b"small"]
    source.add_image(layers)
    assert await cache.pull("1") == layers
    source.status = 500
    asked = len(source.asked)
    assert await cache.pull("1") == layers
    assert len(source.asked) == asked


async def test_what_was_pulled_is_listed(source: Source, cache: Cache) -> None:
    manifest = source.add_image([b"layer"])
    await cache.pull("1")
    catalogue = (await cache.client.get("/v2/_catalog")).json()
    assert catalogue == {"repositories": ["hub/library/app"]}
    assert (await cache.client.get("/v2/hub/library/app/tags/list")).json()["tags"] == ["1"]
    image = await asyncio.to_thread(cache.registry.find_image, "hub/library/app", "1")
    assert image is not None
    assert (image.digest, image.platforms) == (manifest.digest, ("linux/arm64",))
    assert image.size_bytes == len(manifest.raw) + manifest.config.size + len(b"layer")


async def test_an_index_comes_before_its_manifests_and_they_when_asked_for(source: Source, cache: Cache) -> None:
    arm = source.add_image([b"arm"], "arm")
    missing = Descriptor(media_types.OCI_MANIFEST, Digest.of(b"other"), 5, platform=Platform("linux", "amd64"))
    index = Index.build([arm.descriptor(Platform("linux", "arm64")), missing])
    source.manifests["library/app:multi"] = (index.raw, index.media_type)
    response = await cache.client.get("/v2/hub/library/app/manifests/multi")
    assert response.content == index.raw
    assert await cache.pull(arm.digest) == [b"arm"]
    gone = await cache.client.get(f"/v2/hub/library/app/manifests/{missing.digest}")
    assert (gone.status_code, code_of(gone)) == (404, "MANIFEST_UNKNOWN")


async def test_twenty_clients_at_once_are_one_request_a_blob(source: Source, cache: Cache) -> None:
    layer = os.urandom(9 * MIB)
    manifest = source.add_image([layer])
    for pulled in await asyncio.gather(*(cache.pull("1") for _ in range(20))):
        assert pulled == [layer]
    assert source.count(manifest.layers[0].digest) == 1
    assert source.count(manifest.config.digest) == 1
    assert source.count("/manifests/") == 1


async def test_a_client_that_goes_ends_nothing_for_the_others(source: Source, cache: Cache) -> None:
    layer = os.urandom(8 * MIB)
    digest = source.add_image([layer]).layers[0].digest
    source.gate = asyncio.Event()
    await cache.client.get("/v2/hub/library/app/manifests/1")
    async with cache.client.stream("GET", f"/v2/hub/library/app/blobs/{digest}") as first:
        assert first.status_code == 200
        await anext(first.aiter_raw())
        second = asyncio.create_task(cache.blob(digest))
        await asyncio.sleep(0.1)
    source.gate.set()
    assert await second == layer
    assert source.count(digest) == 1


async def test_what_everybody_left_is_here_the_next_time(source: Source, cache: Cache) -> None:
    layer = os.urandom(4 * MIB)
    digest = source.add_image([layer]).layers[0].digest
    source.gate = asyncio.Event()
    await cache.client.get("/v2/hub/library/app/manifests/1")
    async with cache.client.stream("GET", f"/v2/hub/library/app/blobs/{digest}") as first:
        await anext(first.aiter_raw())
    source.gate.set()
    async with asyncio.timeout(5):
        while cache.blobs.find(digest) is None:  # noqa: ASYNC110 - the download has no listener here
            await asyncio.sleep(0.02)
    assert await cache.blob(digest) == layer
    assert source.count(digest) == 1


@pytest.mark.parametrize("asked", [(0, 0), (0, 99), (5 * MIB, 5 * MIB + 10), (6 * MIB, None), (None, 7)])
async def test_a_range_of_a_blob_on_its_way_is_that_range(
    source: Source, cache: Cache, asked: tuple[int | None, int | None]
) -> None:
    layer = os.urandom(8 * MIB)
    digest = source.add_image([layer]).layers[0].digest
    await cache.client.get("/v2/hub/library/app/manifests/1")
    first, last = asked
    text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    response = await cache.client.get(f"/v2/hub/library/app/blobs/{digest}", headers={"Range": text})
    assert response.status_code == 206
    if first is None:
        assert last is not None
        assert response.content == layer[-last:]
    else:
        assert response.content == layer[first : None if last is None else last + 1]
    assert source.count(digest) == 1


async def test_head_of_a_blob_that_is_promised_asks_nobody(source: Source, cache: Cache) -> None:
    digest = source.add_image([b"x" * 100]).layers[0].digest
    await cache.client.get("/v2/hub/library/app/manifests/1")
    response = await cache.client.head(f"/v2/hub/library/app/blobs/{digest}")
    assert (response.status_code, response.headers["content-length"]) == (200, "100")
    assert source.count(digest) == 0


async def test_a_blob_that_no_manifest_names_is_not_asked_for(source: Source, cache: Cache) -> None:
    descriptor = source.add_blob(media_types.OCI_LAYER, b"loose")
    response = await cache.client.get(f"/v2/hub/library/app/blobs/{descriptor.digest}")
    assert (response.status_code, code_of(response)) == (404, "BLOB_UNKNOWN")
    assert source.asked == []


async def test_a_tag_is_trusted_for_its_time_and_then_asked_for_by_head(
    source: Source, cache: Cache, clock: Clock
) -> None:
    source.add_image([b"old"])
    assert await cache.pull("1") == [b"old"]
    source.add_image([b"new"])
    clock.now += 3599
    assert await cache.pull("1") == [b"old"]
    clock.now += 2
    assert await cache.pull("1") == [b"new"]
    asked = [line for line in source.asked if "/manifests/" in line]
    assert asked == [
        "GET /v2/library/app/manifests/1",
        "HEAD /v2/library/app/manifests/1",
        "GET /v2/library/app/manifests/1",
    ]
    clock.now += 3601
    assert await cache.pull("1") == [b"new"]
    assert source.asked[-1] == "HEAD /v2/library/app/manifests/1"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_a_stale_tag_is_served_with_a_warning_when_the_upstream_fails(
    source: Source, cache: Cache, clock: Clock, status: int
) -> None:
    source.add_image([b"layer"])
    await cache.pull("1")
    clock.now += 4000
    source.status = status
    response = await cache.client.get("/v2/hub/library/app/manifests/1")
    assert response.status_code == 200
    assert response.headers["warning"].startswith('110 sanderling "')
    assert source.address in response.headers["warning"]
    assert await cache.pull("1") == [b"layer"]


async def test_a_tag_that_its_upstream_has_no_more_is_not_served(source: Source, cache: Cache, clock: Clock) -> None:
    manifest = source.add_image([b"layer"])
    await cache.pull("1")
    clock.now += 4000
    source.manifests.clear()
    response = await cache.client.get("/v2/hub/library/app/manifests/1")
    assert response.status_code == 404
    assert manifest.digest in response.text
    assert await cache.pull(manifest.digest) == [b"layer"]


@pytest.mark.parametrize(
    ("status", "headers", "expected", "code"),
    [
        (404, {}, 404, "MANIFEST_UNKNOWN"),
        (401, {"WWW-Authenticate": 'Basic realm="there"'}, 403, "DENIED"),
        (403, {}, 403, "DENIED"),
        (429, {"Retry-After": "7"}, 429, "TOOMANYREQUESTS"),
        (500, {}, 503, "UNAVAILABLE"),
        (502, {}, 503, "UNAVAILABLE"),
        (418, {}, 502, "UNAVAILABLE"),
    ],
)
async def test_a_refusal_of_the_upstream_is_told_with_its_name(
    source: Source, cache: Cache, status: int, headers: dict[str, str], expected: int, code: str
) -> None:
    source.status, source.headers = status, headers
    response = await cache.client.get("/v2/hub/library/app/manifests/1")
    assert (response.status_code, code_of(response)) == (expected, code)
    assert source.address in response.text
    if status == 429:
        assert response.headers["retry-after"] == "7"


async def test_a_storm_of_misses_reaches_the_upstream_once(source: Source, cache: Cache) -> None:
    path = "/v2/hub/library/app/manifests/none"
    answers = await asyncio.gather(*(cache.client.get(path) for _ in range(30)))
    assert {one.status_code for one in answers} == {404}
    assert (await cache.client.get(path)).status_code == 404
    assert len(source.asked) == 1


async def test_an_upstream_that_has_had_enough_is_left_alone_for_everything(source: Source, cache: Cache) -> None:
    source.status, source.headers = 429, {"Retry-After": "100"}
    await cache.client.get("/v2/hub/library/app/manifests/1")
    response = await cache.client.get("/v2/hub/library/other/manifests/1")
    assert response.status_code == 429
    assert 95 <= int(response.headers["retry-after"]) <= 100
    assert len(source.asked) == 1
    assert "429" in cache.registry.find_upstream_trouble("hub")


async def test_a_fault_at_one_question_leaves_the_others_asked(source: Source, cache: Cache) -> None:
    source.add_image([b"layer"])
    source.status = 501
    response = await cache.client.get("/v2/hub/library/broken/manifests/1")
    assert (response.status_code, code_of(response)) == (503, "UNAVAILABLE")
    source.status = 0
    assert await cache.pull("1") == [b"layer"]
    asked = len(source.asked)
    assert (await cache.client.get("/v2/hub/library/broken/manifests/1")).status_code == 503
    assert len(source.asked) == asked


async def test_a_blob_beyond_all_bounds_is_not_asked_for(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanderling.registry.upstream.cache.MAX_BLOB_BYTES", 100)
    manifest = source.add_image([b"small", bytes(101)])
    await cache.client.get("/v2/hub/library/app/manifests/1")
    small, large = (layer.digest for layer in manifest.layers)
    assert (await cache.client.get(f"/v2/hub/library/app/blobs/{small}")).content == b"small"
    response = await cache.client.get(f"/v2/hub/library/app/blobs/{large}")
    assert (response.status_code, code_of(response)) == (403, "DENIED")
    assert source.count(large) == 0


async def test_a_push_to_a_cache_is_refused_with_the_reason(source: Source, cache: Cache) -> None:
    for response in (
        await cache.client.post("/v2/hub/library/app/blobs/uploads/"),
        await cache.client.put("/v2/hub/library/app/manifests/1", content=b"{}"),
    ):
        assert (response.status_code, code_of(response)) == (405, "UNSUPPORTED")
        assert "hub" in response.text
        assert source.address in response.text


async def test_what_was_deleted_here_is_pulled_through_again(source: Source, cache: Cache) -> None:
    manifest = source.add_image([b"layer"])
    await cache.pull("1")
    assert (await cache.client.delete(f"/v2/hub/library/app/manifests/{manifest.digest}")).status_code == 202
    assert (await cache.client.delete(f"/v2/hub/library/app/blobs/{manifest.layers[0].digest}")).status_code == 202
    assert await cache.pull("1") == [b"layer"]


async def test_a_layer_that_came_for_one_repository_is_not_fetched_for_another(source: Source, cache: Cache) -> None:
    layer = os.urandom(2 * MIB)
    digest = source.add_image([layer]).layers[0].digest
    source.add_image([layer], repository="library/other")
    await cache.pull("1")
    assert await cache.pull("1", "hub/library/other") == [layer]
    asked = [line.split()[0] for line in source.asked if digest in line]
    assert asked == ["GET", "HEAD"]


async def test_what_was_pushed_here_is_not_shown_on_the_word_of_an_upstream(source: Source, cache: Cache) -> None:
    secret = b"known to those who may pull demo/secret"
    pushed = await cache.client.post(
        "/v2/demo/secret/blobs/uploads/", params={"digest": Digest.of(secret)}, content=secret
    )
    assert pushed.status_code == 201
    source.add_image([secret])
    source.blobs.pop(Digest.of(secret))
    await cache.client.get("/v2/hub/library/app/manifests/1")
    response = await cache.client.get(f"/v2/hub/library/app/blobs/{Digest.of(secret)}")
    assert response.status_code == 404


async def test_referrers_are_those_here_and_those_there(source: Source, cache: Cache) -> None:
    subject = source.add_image([b"layer"])
    signature = Descriptor(media_types.OCI_MANIFEST, Digest.of(b"signature"), 9, artifact_type="application/x-signed")
    source.referrers = [signature.to_json()]
    path = f"/v2/hub/library/app/referrers/{subject.digest}"
    assert [one["digest"] for one in (await cache.client.get(path)).json()["manifests"]] == [signature.digest]
    filtered = await cache.client.get(path, params={"artifactType": "application/other"})
    assert filtered.json()["manifests"] == []
    source.status = 500
    assert (await cache.client.get(path)).json()["manifests"] == []


async def test_only_what_is_allowed_is_asked_for(tmp_path: Path, source: Source) -> None:
    source.add_image([b"layer"])
    source.add_image([b"other"], repository="other/app")
    async with caching(tmp_path / "c", upstream(source.address, only=("library/*",))) as cache:
        assert await cache.pull("1") == [b"layer"]
        response = await cache.client.get("/v2/hub/other/app/manifests/1")
    assert (response.status_code, code_of(response)) == (403, "DENIED")
    assert source.count("other/app") == 0


async def test_an_upstream_that_is_switched_off_serves_what_is_here(tmp_path: Path, source: Source) -> None:
    source.add_image([b"layer"])
    async with caching(tmp_path / "c", upstream(source.address)) as cache:
        await cache.pull("1")
    asked = len(source.asked)
    async with caching(tmp_path / "c", upstream(source.address, is_enabled=False, ttl_s=0)) as cache:
        assert await cache.pull("1") == [b"layer"]
        response = await cache.client.get("/v2/hub/library/app/manifests/2")
        assert (response.status_code, "switched off" in response.text) == (404, True)
        assert (await cache.client.post("/v2/hub/library/app/blobs/uploads/")).status_code == 405
    assert len(source.asked) == asked


async def test_a_mirror_answers_for_the_registry_that_the_client_names(tmp_path: Path, source: Source) -> None:
    source.add_image([b"layer"])
    async with caching(tmp_path / "c", upstream(source.address, is_mirror=True)) as cache:
        path = "/v2/library/app/manifests/1"
        named = await cache.client.get(path, params={"ns": source.address})
        assert named.status_code == 200
        digest = Manifest.parse(named.content).layers[0].digest
        blob = await cache.client.get(f"/v2/library/app/blobs/{digest}", params={"ns": source.address})
        assert blob.content == b"layer"
        assert (await cache.client.get(path)).status_code == 404
        assert (await cache.client.get(path, params={"ns": "quay.io"})).status_code == 404
        pushed = await cache.client.post("/v2/library/app/blobs/uploads/", params={"ns": source.address})
        assert pushed.status_code == 202


async def test_an_upstream_that_is_not_there_is_told_and_left_alone(tmp_path: Path) -> None:
    async with serving(Source()) as address:
        pass
    async with caching(tmp_path / "c", upstream(address)) as cache:
        first = await cache.client.get("/v2/hub/library/app/manifests/1")
        second = await cache.client.get("/v2/hub/library/other/manifests/1")
    for response in (first, second):
        assert (response.status_code, code_of(response)) == (503, "UNAVAILABLE")
        assert address in response.text
    assert int(second.headers["retry-after"]) <= 5


async def test_garbage_collection_keeps_what_was_pulled_and_what_is_promised(
    source: Source, cache: Cache, clock: Clock
) -> None:
    pulled, promised = source.add_image([b"pulled"], "1"), source.add_image([b"promised"], "2")
    await cache.pull("1")
    await cache.client.get("/v2/hub/library/app/manifests/2")
    clock.now += 30 * 86400
    assert (await cache.registry.collect_garbage()).gone == ()
    source.status = 503
    assert await cache.pull("1") == [b"pulled"]
    source.status = 0
    clock.now += 3600  # the upstream is left alone by the true clock; what is here needs it not
    assert await cache.pull(pulled.digest) == [b"pulled"]
    await cache.client.delete(f"/v2/hub/library/app/manifests/{pulled.digest}")
    clock.now += 30 * 86400
    gone = {line.reference for line in (await cache.registry.collect_garbage()).gone}
    assert {pulled.config.digest, pulled.layers[0].digest} <= gone
    assert promised.config.digest not in gone
    assert cache.blobs.find(pulled.layers[0].digest) is None


async def test_a_client_of_no_upstream_is_as_before(source: Source, cache: Cache) -> None:
    response = await cache.client.get("/v2/demo/app/manifests/1")
    assert response.status_code == 404
    assert (await cache.client.head("/v2/hubble/app/manifests/1")).status_code == 404
    assert source.asked == []
    assert isinstance(response, httpx.Response)
