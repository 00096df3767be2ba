"""The port for servers, over a folder: streams and resumable uploads."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from sanderling.blobs import BlobInfo, BlobNotFound, BlobStore, FileBlobs, UploadBusy, UploadNotFound, WrongOffset
from sanderling.oci import Digest, DigestMismatch

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several pieces and batches
DIGEST = Digest.of(CONTENT)


async def pieces(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(store: BlobStore, digest: Digest, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.open(digest, start, end)])


async def test_an_upload_becomes_a_blob_only_at_commit(blobs: FileBlobs) -> None:
    upload = await blobs.begin_upload()
    assert await blobs.append(upload, 0, pieces(CONTENT)) == len(CONTENT)
    assert await blobs.stat(DIGEST) is None
    assert await blobs.commit(upload, DIGEST) == BlobInfo(DIGEST, len(CONTENT))
    assert await read(blobs, DIGEST) == CONTENT
    with pytest.raises(UploadNotFound):
        await blobs.upload_offset(upload)


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 0), (0, 1), (5, 6), (300_000, 2_000_000), (7, None), (9**9, None)]
)
async def test_a_part_is_read_from_start_up_to_end(blobs: FileBlobs, start: int, end: int | None) -> None:
    blobs.put(CONTENT)
    assert await read(blobs, DIGEST, start, end) == CONTENT[start:end]


async def test_opening_what_is_not_there_fails_at_the_first_step(blobs: FileBlobs) -> None:
    with pytest.raises(BlobNotFound):
        await read(blobs, DIGEST)


async def test_an_upload_goes_on_after_a_restart(blobs: FileBlobs) -> None:
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(CONTENT[:1_000_000]))
    reborn = FileBlobs(blobs.root)
    assert await reborn.upload_offset(upload) == 1_000_000
    await reborn.append(upload, 1_000_000, pieces(CONTENT[1_000_000:]))
    await reborn.commit(upload, DIGEST)
    assert await read(reborn, DIGEST) == CONTENT


async def test_a_piece_at_the_wrong_offset_is_refused(blobs: FileBlobs) -> None:
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(b"12345"))
    with pytest.raises(WrongOffset) as refused:
        await blobs.append(upload, 4, pieces(b"67"))
    assert (refused.value.given, refused.value.expected) == (4, 5)
    assert await blobs.upload_offset(upload) == 5


async def test_what_came_before_the_client_went_stays_and_is_hashed(blobs: FileBlobs) -> None:
    class Gone(Exception):
        pass

    async def cut() -> AsyncIterator[bytes]:
        yield CONTENT[:1_500_000]
        yield CONTENT[1_500_000:1_600_000]
        raise Gone

    upload = await blobs.begin_upload()
    with pytest.raises(Gone):
        await blobs.append(upload, 0, cut())
    assert await blobs.append(upload, 1_600_000, pieces(CONTENT[1_600_000:])) == len(CONTENT)
    await blobs.commit(upload, DIGEST)


async def test_a_cancelled_append_ends_its_write_and_frees_the_upload(blobs: FileBlobs) -> None:
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


async def test_a_wrong_digest_is_refused_and_nothing_appears(blobs: FileBlobs) -> None:
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(b"other bytes"))
    with pytest.raises(DigestMismatch):
        await blobs.commit(upload, DIGEST)
    assert list(blobs.digests()) == []
    await blobs.abort(upload)
    with pytest.raises(UploadNotFound):
        await blobs.abort(upload)


async def test_sha512_is_computed_from_the_file_when_the_running_hash_is_another(blobs: FileBlobs) -> None:
    digest = Digest.of(CONTENT, "sha512")
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(CONTENT))
    assert (await blobs.commit(upload, digest)).digest == digest


async def test_bytes_added_behind_our_back_are_noticed(blobs: FileBlobs) -> None:
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(b"ab"))
    with (blobs.root / "uploads" / upload).open("ab") as file:
        file.write(b"c")
    assert (await blobs.commit(upload, Digest.of(b"abc"))).size == 3


async def test_two_requests_cannot_write_to_one_upload_at_once(blobs: FileBlobs) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        inside.set()
        await leave.wait()
        yield b"one"

    upload = await blobs.begin_upload()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(blobs.append(upload, 0, slow()))
        await inside.wait()
        with pytest.raises(UploadBusy):
            await blobs.append(upload, 0, pieces(b"two"))
        with pytest.raises(UploadBusy):
            await FileBlobs(blobs.root).abort(upload)
        leave.set()
    assert first.result() == 3


async def test_two_uploads_of_one_blob_at_once_both_succeed(blobs: FileBlobs) -> None:
    async def push() -> BlobInfo:
        upload = await blobs.begin_upload()
        await blobs.append(upload, 0, pieces(CONTENT))
        return await blobs.commit(upload, DIGEST)

    assert await asyncio.gather(push(), push()) == [BlobInfo(DIGEST, len(CONTENT))] * 2
    assert len(list(blobs.digests())) == 1


@pytest.mark.parametrize("upload", ["", "../../etc/passwd", "0" * 31, "G" * 32, "0" * 32, "a/b"])
async def test_an_upload_that_never_was_is_not_found(blobs: FileBlobs, upload: str) -> None:
    with pytest.raises(UploadNotFound):
        await blobs.upload_offset(upload)
    with pytest.raises(UploadNotFound):
        await blobs.append(upload, 0, pieces(b""))


async def test_removing_is_idempotent_and_a_reader_keeps_what_it_opened(blobs: FileBlobs) -> None:
    blobs.put(CONTENT)
    stream = blobs.open(DIGEST)
    first = await anext(aiter(stream))
    await blobs.remove(DIGEST)
    await blobs.remove(DIGEST)
    assert first + b"".join([piece async for piece in stream]) == CONTENT


async def test_abandoned_uploads_are_removed_after_a_while(blobs: FileBlobs) -> None:
    upload = await blobs.begin_upload()
    os.utime(blobs.root / "uploads" / upload, (1000, 1000))
    assert blobs.remove_stale(before=2000) == 1
    with pytest.raises(UploadNotFound):
        await blobs.upload_offset(upload)


async def test_every_blob_is_listed_with_its_size_and_time(blobs: FileBlobs) -> None:
    digests = {blobs.put(content) for content in (b"one", b"two")}
    with blobs.writer("sha512") as writer:
        writer.write(b"three")
        digests.add(writer.commit())
    for digest in digests:
        os.utime(blobs.path(digest), (1000, 1000))
    listed = [blob async for blob in blobs.stored()]
    assert {blob.digest for blob in listed} == digests
    assert {(blob.size, blob.modified_at) for blob in listed} == {(3, 1000.0), (5, 1000.0)}


async def test_an_upload_that_lay_long_is_as_new_as_its_commit(blobs: FileBlobs) -> None:
    upload_id = await blobs.begin_upload()
    await blobs.append(upload_id, 0, pieces(CONTENT))
    os.utime(blobs.root / "uploads" / upload_id, (1000, 1000))
    await blobs.commit(upload_id, DIGEST)
    assert not await blobs.remove_if_older(DIGEST, 2000)
    os.utime(blobs.path(DIGEST), (1000, 1000))
    assert await blobs.remove_if_older(DIGEST, 2000)
    assert await blobs.stat(DIGEST) is None


async def test_uploads_that_nobody_goes_on_with_end(blobs: FileBlobs) -> None:
    old, new = await blobs.begin_upload(), await blobs.begin_upload()
    os.utime(blobs.root / "uploads" / old, (1000, 1000))
    assert await blobs.end_stale_uploads(2000) == 1
    with pytest.raises(UploadNotFound):
        await blobs.upload_offset(old)
    assert await blobs.upload_offset(new) == 0
