"""What the port `BlobStore` promises, over every store: a new store is done when it is in the list of worlds."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext

import pytest
from tests.contracts.worlds import World, keep, pieces

from sanderling.blobs import BlobInfo, BlobNotFound, BlobStore, UploadBusy, UploadNotFound, WrongOffset
from sanderling.oci import Digest, DigestMismatch

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several pieces and batches
DIGEST = Digest.of(CONTENT)


class Gone(Exception):
    """The client is."""


async def read(store: BlobStore, digest: Digest, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.open(digest, start, end)])


def under(names: list[str], *folders: str) -> list[str]:
    return [name for name in names if name.split("/")[0] in folders]


async def test_an_upload_becomes_a_blob_only_at_commit(blobs: BlobStore) -> None:
    upload = await blobs.begin_upload()
    assert await blobs.upload_offset(upload) == 0
    assert await blobs.append(upload, 0, pieces(CONTENT)) == len(CONTENT)
    assert await blobs.stat(DIGEST) is None
    assert await blobs.commit(upload, DIGEST) == BlobInfo(DIGEST, len(CONTENT))
    assert await blobs.stat(DIGEST) == BlobInfo(DIGEST, len(CONTENT))
    assert await read(blobs, DIGEST) == CONTENT
    for ended in (blobs.upload_offset(upload), blobs.commit(upload, DIGEST), blobs.abort(upload)):
        with pytest.raises(UploadNotFound):
            await ended


async def test_nothing_but_the_blob_stays_of_an_upload(world: World) -> None:
    await keep(world.open(), CONTENT)
    (name,) = world.contents()
    assert name.endswith(f"/{DIGEST.hex}")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, None),
        (0, 0),
        (0, 1),
        (5, 6),
        (300_000, 2_000_000),
        (7, None),
        (0, len(CONTENT)),
        (len(CONTENT) - 1, len(CONTENT)),
        (len(CONTENT), None),
        (5, 9**9),
        (9**9, None),
    ],
)
async def test_a_part_is_read_from_start_up_to_end(blobs: BlobStore, start: int, end: int | None) -> None:
    await keep(blobs, CONTENT)
    assert await read(blobs, DIGEST, start, end) == CONTENT[start:end]


@pytest.mark.parametrize(("start", "end"), [(0, None), (0, 10), (5, 10), (0, 0)])
async def test_opening_what_is_not_there_fails_at_the_first_step(blobs: BlobStore, start: int, end: int | None) -> None:
    stream = blobs.open(DIGEST, start, end)
    with pytest.raises(BlobNotFound) as missing:
        await anext(stream)
    assert missing.value.digest == DIGEST
    assert await blobs.stat(DIGEST) is None


async def test_a_reader_may_stop_before_the_end(blobs: BlobStore) -> None:
    await keep(blobs, CONTENT)
    stream = blobs.open(DIGEST)
    assert CONTENT.startswith(await anext(stream))
    await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
async def test_blobs_of_every_size_and_algorithm_are_kept(blobs: BlobStore, size: int, algorithm: str) -> None:
    digest = await keep(blobs, CONTENT[:size], algorithm)
    assert await blobs.stat(digest) == BlobInfo(digest, size)
    assert await read(blobs, digest) == CONTENT[:size]


async def test_an_upload_goes_on_after_a_restart(world: World) -> None:
    first = world.open()
    upload = await first.begin_upload()
    await first.append(upload, 0, pieces(CONTENT[:1_000_000]))
    second = world.open()
    assert await second.upload_offset(upload) == 1_000_000
    await second.append(upload, 1_000_000, pieces(CONTENT[1_000_000:]))
    third = world.open()
    assert await third.commit(upload, DIGEST) == BlobInfo(DIGEST, len(CONTENT))
    assert await read(first, DIGEST) == CONTENT


async def test_a_blob_of_many_pieces_is_put_together_in_their_order(world: World) -> None:
    blobs = world.open()
    upload = await blobs.begin_upload()
    content, offset = CONTENT * 2, 0
    for size in (1, 2_000_000, 10, 0, 3_500_000):
        offset = await blobs.append(upload, offset, pieces(content[offset : offset + size]))
    await blobs.append(upload, offset, pieces(content[offset:]))
    digest = Digest.of(content)
    await blobs.commit(upload, digest)
    assert await read(blobs, digest) == content
    assert not under(world.contents(), "uploads", "temporary")


@pytest.mark.parametrize("given", [0, 4, 6, 10**15])
async def test_a_piece_at_the_wrong_offset_is_refused(blobs: BlobStore, given: int) -> None:
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(b"12345"))
    with pytest.raises(WrongOffset) as refused:
        await blobs.append(upload, given, pieces(b"67"))
    assert (refused.value.given, refused.value.expected) == (given, 5)
    assert await blobs.upload_offset(upload) == 5


async def test_what_came_before_the_client_went_stays(world: World) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield CONTENT[:1_500_000]
        yield CONTENT[1_500_000:1_600_000]
        raise Gone

    blobs = world.open()
    upload = await blobs.begin_upload()
    with pytest.raises(Gone):
        await blobs.append(upload, 0, cut())
    other = world.open()
    assert await other.upload_offset(upload) == 1_600_000
    assert await other.append(upload, 1_600_000, pieces(CONTENT[1_600_000:])) == len(CONTENT)
    await other.commit(upload, DIGEST)
    assert await read(blobs, DIGEST) == CONTENT


async def test_a_cancelled_append_ends_its_writes_and_frees_the_upload(blobs: BlobStore) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            started.set()
            yield CONTENT
            await asyncio.sleep(0)

    upload = await blobs.begin_upload()
    task = asyncio.create_task(blobs.append(upload, 0, endless()))
    await started.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    size = await blobs.upload_offset(upload)
    assert await blobs.append(upload, size, pieces(b"x")) == size + 1
    digest = Digest.of((CONTENT * (size // len(CONTENT) + 1))[:size] + b"x")
    await blobs.commit(upload, digest)


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_wrong_digest_is_refused_and_nothing_appears(world: World, parts: int) -> None:
    blobs = world.open()
    upload = await blobs.begin_upload()
    for part in range(parts):
        await blobs.append(upload, part * 3_000_000, pieces(bytes(3_000_000)))
    for digest in (DIGEST, Digest.of(CONTENT, "sha512")):
        with pytest.raises(DigestMismatch) as refused:
            await blobs.commit(upload, digest)
        assert refused.value.expected == digest
        assert refused.value.actual == Digest.of(bytes(3_000_000) * parts, digest.algorithm)
        assert await blobs.stat(digest) is None
    assert await blobs.upload_offset(upload) == 3_000_000 * parts  # it is the caller's to abort
    await blobs.abort(upload)
    assert world.contents() == []
    with pytest.raises(UploadNotFound):
        await blobs.abort(upload)


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_damaged_upload_is_refused_and_nothing_appears(world: World, parts: int) -> None:
    upload = await world.open().begin_upload()
    cut = len(CONTENT) if parts == 1 else 1_000_000
    await world.open().append(upload, 0, pieces(CONTENT[:cut]))
    if parts == 2:
        await world.open().append(upload, cut, pieces(CONTENT[cut:]))
    world.damage(upload)
    blobs = world.open()
    with pytest.raises(DigestMismatch):
        await blobs.commit(upload, DIGEST)
    assert not under(world.contents(), "sha256")
    await blobs.abort(upload)
    assert world.contents() == []


async def test_two_requests_cannot_write_to_one_upload_at_once(world: World) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        inside.set()
        await leave.wait()
        yield b"one"

    blobs = world.open()
    upload = await blobs.begin_upload()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(blobs.append(upload, 0, slow()))
        await inside.wait()
        for busy in (blobs.append(upload, 0, pieces(b"two")), blobs.abort(upload), blobs.commit(upload, DIGEST)):
            with pytest.raises(UploadBusy):
                await busy
        if world.excludes_servers:
            with pytest.raises(UploadBusy):
                await world.open().abort(upload)
        leave.set()
    assert first.result() == 3
    await blobs.commit(upload, Digest.of(b"one"))


async def test_of_two_servers_that_write_at_one_offset_the_later_is_refused(world: World) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"sl"
        inside.set()
        await leave.wait()
        yield b"ow"

    upload = await world.open().begin_upload()
    results: list[object] = []
    async with asyncio.TaskGroup() as group:

        async def write() -> None:
            try:
                results.append(await world.open().append(upload, 0, slow()))
            except (UploadBusy, WrongOffset) as e:
                results.append(e)

        group.create_task(write())
        await inside.wait()
        try:
            results.append(await world.open().append(upload, 0, pieces(b"quick")))
        except (UploadBusy, WrongOffset) as e:
            results.append(e)
        leave.set()
    (size,) = [result for result in results if isinstance(result, int)]
    assert await world.open().upload_offset(upload) == size
    content = {4: b"slow", 5: b"quick"}[size]
    await world.open().commit(upload, Digest.of(content))
    assert await read(world.open(), Digest.of(content)) == content
    assert not under(world.contents(), "uploads")


async def test_an_upload_that_another_server_ends_is_busy_or_is_not_there_any_more(world: World) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"sl"
        inside.set()
        await leave.wait()
        yield b"ow"

    busy: AbstractContextManager[object] = nullcontext()
    gone: AbstractContextManager[object] = pytest.raises(UploadNotFound)
    if world.excludes_servers:
        busy, gone = pytest.raises(UploadBusy), nullcontext()
    upload = await world.open().begin_upload()
    async with asyncio.TaskGroup() as group:

        async def write() -> None:
            with gone:
                await world.open().append(upload, 0, slow())

        group.create_task(write())
        await inside.wait()
        with busy:
            await world.open().abort(upload)
        leave.set()
    if world.excludes_servers:
        await world.open().abort(upload)
    assert world.contents() == []


async def test_two_uploads_of_one_blob_at_once_both_succeed(world: World) -> None:
    async def push(blobs: BlobStore) -> BlobInfo:
        upload = await blobs.begin_upload()
        await blobs.append(upload, 0, pieces(CONTENT))
        return await blobs.commit(upload, DIGEST)

    one, two = world.open(), world.open()
    assert await asyncio.gather(push(one), push(one), push(two)) == [BlobInfo(DIGEST, len(CONTENT))] * 3
    assert len(world.contents()) == 1
    assert await read(one, DIGEST) == CONTENT


async def test_many_uploads_at_once_are_all_whole(world: World) -> None:
    blobs = world.open()
    contents = [number.to_bytes(4, "big") * 300_000 for number in range(12)]
    digests = await asyncio.gather(*(keep(blobs, content) for content in contents))
    assert [await read(blobs, digest) for digest in digests] == contents


@pytest.mark.parametrize(
    "upload",
    ["", ".", "..", "../../etc/passwd", "0" * 31, "G" * 32, "0" * 32, "a/b", "0" * 32 + "/x", "\x00" * 32, "%2e"],
)
async def test_an_upload_that_never_was_is_not_found(blobs: BlobStore, upload: str) -> None:
    for call in (
        blobs.upload_offset(upload),
        blobs.append(upload, 0, pieces(b"")),
        blobs.commit(upload, DIGEST),
        blobs.abort(upload),
    ):
        with pytest.raises(UploadNotFound):
            await call


async def test_removing_is_idempotent_and_a_reader_keeps_what_it_opened(world: World) -> None:
    blobs = world.open()
    content = CONTENT * 10
    digest = await keep(blobs, content)
    stream = blobs.open(digest)
    first = await anext(stream)
    await blobs.remove(digest)
    await blobs.remove(digest)
    assert await world.open().stat(digest) is None
    assert first + b"".join([piece async for piece in stream]) == content


async def test_every_blob_is_listed_with_its_size_and_time(world: World) -> None:
    blobs = world.open()
    since = time.time()
    digests = {await keep(blobs, content): len(content) for content in (b"one", b"three", CONTENT)}
    digests[await keep(blobs, b"sha512", "sha512")] = 6
    await blobs.append(await blobs.begin_upload(), 0, pieces(b"not a blob yet"))
    listed = [blob async for blob in world.open().stored()]
    assert {blob.digest: blob.size for blob in listed} == digests
    assert len(listed) == len(digests)
    assert all(since - 2 <= blob.modified_at <= time.time() + 2 for blob in listed)


async def test_only_a_blob_whose_last_commit_is_older_is_removed(world: World) -> None:
    blobs = world.open()
    await keep(blobs, CONTENT)
    assert not await blobs.remove_if_older(DIGEST, time.time() - 60)
    await asyncio.sleep(2.1)  # times may be in whole seconds
    between = time.time()
    assert await world.open().stat(DIGEST) is not None
    await keep(world.open(), CONTENT)
    assert not await blobs.remove_if_older(DIGEST, between - 1)
    assert await read(blobs, DIGEST) == CONTENT
    assert await blobs.remove_if_older(DIGEST, time.time() + 60)
    assert not await blobs.remove_if_older(DIGEST, time.time() + 60)
    assert await blobs.stat(DIGEST) is None
    assert world.contents() == []


async def test_a_commit_beside_a_removal_is_never_lost(world: World) -> None:
    one, two = world.open(), world.open()
    for _ in range(5):
        upload = await one.begin_upload()
        await one.append(upload, 0, pieces(b"again and again"))
        digest = Digest.of(b"again and again")
        since = time.time() - 2  # times may be in whole seconds
        _, info = await asyncio.gather(two.remove_if_older(digest, since), one.commit(upload, digest))
        assert await two.stat(digest) == info


async def test_uploads_that_nobody_goes_on_with_end(world: World) -> None:
    blobs = world.open()
    digest = await keep(blobs, b"kept")
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(b"half"))
    assert await blobs.end_stale_uploads(time.time() - 60) == 0
    assert await blobs.upload_offset(upload) == 4
    assert await world.open().end_stale_uploads(time.time() + 60) == 1
    with pytest.raises(UploadNotFound):
        await blobs.upload_offset(upload)
    assert [blob.digest async for blob in blobs.stored()] == [digest]
    assert len(world.contents()) == 1
