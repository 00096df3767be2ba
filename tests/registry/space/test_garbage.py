"""What is garbage and what is not, over a true database and true files."""

import httpx
import pytest
from sqlalchemy import Engine, func, select
from tests.registry.space.world import DAY, HOUR, collect, kinds
from tests.registry.world import Clock, push_blob, push_image, put_manifest

from sanderling.blobs import FileBlobs
from sanderling.errors import Unavailable
from sanderling.oci import Descriptor, Digest, Index, Manifest, canonical_json, media_types
from sanderling.registry import Registry
from sanderling.registry.space.report import Gone, Kind
from sanderling.registry.space.space import CollectionRuns
from sanderling.registry.space.tables import removals

pytestmark = pytest.mark.anyio

CONTENT = b"a layer that nobody names"
DIGEST = Digest.of(CONTENT)


async def test_a_blob_that_no_manifest_names_goes_when_its_time_is_over(
    client: httpx.AsyncClient, registry: Registry, blobs: FileBlobs, clock: Clock
) -> None:
    await push_blob(client, CONTENT)
    clock.now += DAY - 1
    assert (await collect(registry)).gone == ()
    assert (await client.get(f"/v2/demo/digits/blobs/{DIGEST}")).status_code == 200
    clock.now += 2
    report = await collect(registry)
    assert report.gone == (
        Gone(Kind.LINK, "demo/digits", DIGEST, "no manifest names it"),
        Gone(Kind.BLOB, "", DIGEST, "no repository has it", len(CONTENT)),
    )
    assert report.freed_bytes == len(CONTENT)
    assert blobs.find(DIGEST) is None
    assert (await client.head(f"/v2/demo/digits/blobs/{DIGEST}")).status_code == 404


async def test_an_image_is_never_garbage_tagged_or_not(
    client: httpx.AsyncClient, registry: Registry, clock: Clock
) -> None:
    await push_image(client, "1", layer=b"one")
    await push_image(client, "1", layer=b"two")  # the first has no tag now
    manifest = await push_image(client, "signed", layer=b"three")
    empty = Descriptor("application/vnd.oci.empty.v1+json", await push_blob(client, b"{}"), 2)
    about = Descriptor(media_types.OCI_MANIFEST, Digest.of(b"an image that may come"), 100)
    for subject in (manifest.descriptor(), about):
        raw = signature(empty, subject)
        await put_manifest(client, raw, media_types.OCI_MANIFEST, Digest.of(raw))
    clock.now += 1000 * DAY
    assert (await collect(registry)).gone == ()
    registry.delete_image("demo/digits", manifest.digest)
    clock.now += 1000 * DAY
    gone = (await collect(registry)).gone
    # Its signature stays: the subject may come again.
    assert {one.reference for one in gone} == {manifest.config.digest, Digest.of(b"three")}


def signature(empty: Descriptor, subject: Descriptor) -> bytes:
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "artifactType": "application/vnd.test.signature",
            "config": empty.to_json(),
            "layers": [empty.to_json()],
            "subject": subject.to_json(),
        }
    )


@pytest.mark.parametrize("look", ["head", "mount", "push"])
async def test_who_was_told_that_a_blob_is_here_may_count_on_it(
    client: httpx.AsyncClient, registry: Registry, clock: Clock, look: str
) -> None:
    await push_blob(client, CONTENT)
    await push_blob(client, CONTENT, "demo/base")
    clock.now += 23 * HOUR
    if look == "head":
        assert (await client.head(f"/v2/demo/digits/blobs/{DIGEST}")).status_code == 200
    elif look == "mount":
        parameters = {"mount": DIGEST, "from": "demo/base"}
        assert (await client.post("/v2/demo/digits/blobs/uploads/", params=parameters)).status_code == 201
    else:
        await push_blob(client, CONTENT)
    clock.now += 12 * HOUR
    gone = (await collect(registry)).gone
    assert [(one.kind, one.repository) for one in gone] == [(Kind.LINK, "demo/base")]
    config = Descriptor(media_types.OCI_CONFIG, DIGEST, len(CONTENT))
    manifest = Manifest.build(config, [])
    assert (await put_manifest(client, manifest.raw, manifest.media_type, "1")).status_code == 201


async def test_telling_is_written_down_twice_a_day_at_most(
    client: httpx.AsyncClient, engine: Engine, clock: Clock
) -> None:
    await push_blob(client, CONTENT)
    written: list[float] = []
    for _ in range(48):
        assert (await client.head(f"/v2/demo/digits/blobs/{DIGEST}")).status_code == 200
        with engine.connect() as connection:
            written.append(connection.exec_driver_sql("SELECT linked_at FROM registry_blobs").scalar_one())
        clock.now += HOUR
    assert len(set(written)) == 4


async def test_a_blob_that_several_repositories_have_goes_with_the_last_and_counts_once(
    client: httpx.AsyncClient, registry: Registry, blobs: FileBlobs, clock: Clock
) -> None:
    shared = b"a shared layer" * 100
    images = {name: await push_image(client, "1", name, shared) for name in ("demo/a", "demo/b")}
    clock.now += 2 * DAY
    registry.delete_image("demo/a", images["demo/a"].digest)
    report = await collect(registry)
    assert kinds(report.gone) == [Kind.LINK, Kind.LINK]
    assert report.freed_bytes == 0
    assert (await client.get(f"/v2/demo/b/blobs/{Digest.of(shared)}")).content == shared
    registry.delete_image("demo/b", images["demo/b"].digest)
    report = await collect(registry)
    assert kinds(report.gone) == [Kind.LINK, Kind.LINK, Kind.BLOB, Kind.BLOB]
    assert report.freed_bytes == images["demo/b"].total_size_bytes - len(images["demo/b"].raw)
    assert list(blobs.digests()) == []


async def test_an_index_keeps_what_it_names(client: httpx.AsyncClient, registry: Registry, clock: Clock) -> None:
    manifest = await push_image(client, "1")
    index = Index.build([manifest.descriptor()])
    await put_manifest(client, index.raw, index.media_type, "multi")
    registry.delete_image("demo/digits", "1")
    clock.now += 100 * DAY
    assert (await collect(registry)).gone == ()
    assert registry.find_image("demo/digits", manifest.digest)


async def test_bytes_without_a_link_wait_for_a_push_in_flight(
    registry: Registry, blobs: FileBlobs, clock: Clock
) -> None:
    blobs.put(CONTENT)  # committed by a server that was killed before it linked
    clock.now += DAY
    assert (await collect(registry)).gone == ()
    clock.now += 1
    assert kinds((await collect(registry)).gone) == [Kind.BLOB]


async def test_a_reader_that_has_begun_gets_all_of_it(registry: Registry, blobs: FileBlobs, clock: Clock) -> None:
    content = bytes(range(256)) * 4000
    digest = blobs.put(content)
    reader = blobs.open(digest)
    received = await anext(reader)
    clock.now += 2 * DAY
    assert kinds((await collect(registry)).gone) == [Kind.BLOB]
    async for piece in reader:
        received += piece
    assert received == content


async def test_removals_are_forgotten_after_the_grace_time(
    registry: Registry, blobs: FileBlobs, clock: Clock, engine: Engine
) -> None:
    blobs.put(CONTENT)
    count = select(func.count()).select_from(removals)
    counts = []
    for days in (2.0, 0.5, 0.6):
        clock.now += days * DAY
        await registry.collect_garbage()
        with engine.connect() as connection:
            counts.append(connection.execute(count).scalar_one())
    assert counts == [1, 1, 0]


async def test_a_store_that_fails_ends_the_run_with_its_problem_and_the_next_goes_on(
    registry: Registry, blobs: FileBlobs, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {blobs.put(bytes([number])) for number in range(3)}
    clock.now += 2 * DAY
    tried: list[Digest] = []
    remove = blobs.remove_if_older

    async def fails_once(digest: Digest, before: float) -> bool:
        tried.append(digest)
        if len(tried) == 2:
            raise Unavailable("the disk does not answer")
        return await remove(digest, before)

    monkeypatch.setattr(blobs, "remove_if_older", fails_once)
    report = await registry.collect_garbage()
    assert report.problem == "the disk does not answer"
    assert len(list(blobs.digests())) == 2
    clock.now += 121  # the claims of the broken run are old then
    report = await registry.collect_garbage()
    assert report.problem == ""
    assert {one.reference for one in report.gone} == digests - {tried[0]}
    assert list(blobs.digests()) == []


async def test_only_one_collection_runs_in_a_server(
    registry: Registry, blobs: FileBlobs, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put(CONTENT)
    clock.now += 2 * DAY
    remove = blobs.remove_if_older

    async def meanwhile(digest: Digest, before: float) -> bool:
        with pytest.raises(CollectionRuns, match="running already"):
            await registry.collect_garbage()
        return await remove(digest, before)

    monkeypatch.setattr(blobs, "remove_if_older", meanwhile)
    assert kinds((await registry.collect_garbage()).gone) == [Kind.BLOB]
