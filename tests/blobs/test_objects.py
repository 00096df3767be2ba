"""Uploads and removals in a bucket, where a server is killed or somebody is slow. See the rules in `object_uploads`."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import obstore
import pytest
from obstore.store import MemoryStore
from tests.contracts.worlds import keep, pieces
from tests.s3 import S3Server, s3_server

from sanderling.blobs import BlobStore, UploadNotFound, WrongOffset, object_removals, object_uploads
from sanderling.blobs.bucket import Bucket
from sanderling.blobs.objects import ObjectBlobs
from sanderling.errors import Unavailable
from sanderling.oci import Digest

pytestmark = pytest.mark.anyio

HALF = b"half of it, "
WHOLE = HALF + b"and the rest"
DIGEST = Digest.of(WHOLE)
LARGE = bytes(range(256)) * 40_000  # 10 MB


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(params=[True, False], ids=["create-only", "overwriting"])
def bucket(request: pytest.FixtureRequest, store: MemoryStore) -> Bucket:
    return Bucket(store, "s3://memory", has_create_only=request.param)


@pytest.fixture
def blobs(bucket: Bucket) -> ObjectBlobs:
    return ObjectBlobs(bucket)


def keys(store: MemoryStore) -> list[str]:
    return sorted(meta["path"] for meta in obstore.list(store).collect())


async def read(blobs: BlobStore, digest: Digest) -> bytes:
    return b"".join([piece async for piece in blobs.open(digest)])


async def begun(blobs: BlobStore) -> str:
    """Return an upload that has one half."""
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(HALF))
    return upload


async def test_a_request_that_nothing_slows_down_is_one_piece(blobs: ObjectBlobs, store: MemoryStore) -> None:
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(LARGE))
    names = [key.rpartition("/")[2].split("-")[0] for key in keys(store)]
    assert names == ["at", "begun", "piece"]
    await blobs.commit(upload, Digest.of(LARGE))
    assert await read(blobs, Digest.of(LARGE)) == LARGE


async def test_a_piece_of_a_server_that_was_killed_before_it_counted_is_litter(
    blobs: ObjectBlobs, store: MemoryStore
) -> None:
    upload = await begun(blobs)
    obstore.put(store, f"uploads/{upload}/piece-{len(HALF):020}-{'a' * 32}", b"never acknowledged")
    obstore.put(store, f"uploads/{upload}/piece-{0:020}-{'0' * 32}", b"nor this")
    assert await blobs.upload_offset(upload) == len(HALF)
    await blobs.append(upload, len(HALF), pieces(WHOLE[len(HALF) :]))
    await blobs.commit(upload, DIGEST)
    assert await read(blobs, DIGEST) == WHOLE
    assert len(keys(store)) == 1


async def test_a_commit_that_was_killed_after_the_blob_was_put_is_done_again(
    blobs: ObjectBlobs, store: MemoryStore
) -> None:
    upload = await begun(blobs)
    await blobs.append(upload, len(HALF), pieces(WHOLE[len(HALF) :]))
    obstore.put(store, f"sha256/{DIGEST.hex[:2]}/{DIGEST.hex}", WHOLE)
    await blobs.commit(upload, DIGEST)
    assert len(keys(store)) == 1


async def test_what_a_killed_end_left_is_litter_that_goes(blobs: ObjectBlobs, store: MemoryStore) -> None:
    upload = await begun(blobs)
    obstore.delete(store, f"uploads/{upload}/begun")
    for call in (blobs.upload_offset(upload), blobs.append(upload, len(HALF), pieces(b"x")), blobs.abort(upload)):
        with pytest.raises(UploadNotFound):
            await call
    assert await blobs.end_stale_uploads(time.time() + 60) == 1
    assert keys(store) == []


async def test_of_two_servers_that_count_at_one_moment_the_first_wins(store: MemoryStore) -> None:
    class Late(Bucket):
        """A store in which another server is quicker between the look and the put."""

        async def create(self, key: str, content: bytes) -> bool:
            await other.append(upload, 0, pieces(b"first"))
            return await super().create(key, content)

    other = ObjectBlobs(Bucket(store, "s3://memory", has_create_only=True))
    late = ObjectBlobs(Late(store, "s3://memory", has_create_only=True))
    upload = await other.begin_upload()
    with pytest.raises(WrongOffset) as refused:
        await late.append(upload, 0, pieces(b"second!"))
    assert (refused.value.given, refused.value.expected) == (0, 5)
    await late.commit(upload, Digest.of(b"first"))
    assert len(keys(store)) == 1


async def test_a_create_whose_answer_was_lost_is_its_own(store: MemoryStore) -> None:
    bucket = Bucket(store, "s3://memory", has_create_only=True)
    assert await bucket.create("key", b"ours")
    assert await bucket.create("key", b"ours")
    assert not await bucket.create("key", b"theirs")


async def test_a_commit_waits_for_a_removal_that_may_have_looked_before_it(
    blobs: ObjectBlobs, store: MemoryStore
) -> None:
    await keep(blobs, WHOLE)
    key = f"sha256/{DIGEST.hex[:2]}/{DIGEST.hex}"
    obstore.put(store, f"removing/{key}/{'a' * 32}", b"")
    committing = asyncio.create_task(keep(blobs, WHOLE))
    await asyncio.sleep(0.3)
    assert not committing.done()
    obstore.delete(store, key)  # it had looked, and takes what the commit put
    obstore.delete(store, f"removing/{key}/{'a' * 32}")
    await committing
    assert await read(blobs, DIGEST) == WHOLE
    assert keys(store) == [key]


async def test_the_mark_of_a_removal_that_was_killed_holds_nobody_for_ever(
    blobs: ObjectBlobs, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_removals, "_DEAD_S", 0.0)
    key = f"sha256/{DIGEST.hex[:2]}/{DIGEST.hex}"
    obstore.put(store, f"removing/{key}/{'a' * 32}", b"")
    await asyncio.sleep(0.01)
    await keep(blobs, WHOLE)
    assert keys(store) == [key]
    obstore.put(store, f"removing/{key}/{'b' * 32}", b"")
    obstore.put(store, "trial/of-a-start-that-was-killed", b"1")
    assert await blobs.end_stale_uploads(time.time() + 60) == 2
    assert keys(store) == [key]


async def test_slow_clients_do_not_keep_the_turn_from_others(
    blobs: ObjectBlobs, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield LARGE
        await leave.wait()
        yield LARGE

    uploads = [await blobs.begin_upload() for _ in range(object_uploads.SENDING_AT_ONCE + 1)]
    async with asyncio.TaskGroup() as group:
        for upload in uploads:
            group.create_task(blobs.append(upload, 0, slow()))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            await keep(blobs, WHOLE)
        leave.set()
    for upload in uploads:
        assert await blobs.upload_offset(upload) == 2 * len(LARGE)
    await blobs.commit(uploads[0], Digest.of(LARGE * 2))


async def test_what_others_put_into_the_bucket_is_not_ours(blobs: ObjectBlobs, store: MemoryStore) -> None:
    await keep(blobs, WHOLE)
    for key in ("sha256/notes.txt", "sha256/ab/readme", "uploads/x", "uploads/not-an-id/file"):
        obstore.put(store, key, b"theirs")
    assert [blob.digest async for blob in blobs.stored()] == [DIGEST]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


async def test_a_store_that_goes_away_makes_everything_unavailable_and_tells_no_secret(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = s3.open("gone")
    upload = await begun(blobs)
    await keep(blobs, WHOLE)
    s3.kill()
    said = []
    for call in (
        blobs.stat(DIGEST),
        anext(blobs.open(DIGEST)),
        blobs.begin_upload(),
        blobs.append(upload, len(HALF), pieces(b"x")),
        blobs.commit(upload, DIGEST),
        blobs.remove(DIGEST),
        anext(blobs.stored()),
    ):
        with pytest.raises(Unavailable, match="s3://layers/gone") as failure:
            async with asyncio.timeout(60):
                await call
        said.append(failure.value.message)
    assert "cannot be reached" in said[0]
    assert not [text for text in said if s3.secret in text or s3.key in text]
