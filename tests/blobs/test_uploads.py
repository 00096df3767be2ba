"""Resumable uploads in a folder, where they differ from other stores; the port's promises are in tests/contracts."""

import errno
import os

import pytest
from tests.contracts.worlds import pieces

from sanderling.blobs import FileBlobs, UploadNotFound
from sanderling.errors import Unavailable
from sanderling.oci import Digest

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several pieces and batches
DIGEST = Digest.of(CONTENT)


async def test_bytes_added_behind_our_back_are_noticed(blobs: FileBlobs) -> None:
    upload = await blobs.begin_upload()
    await blobs.append(upload, 0, pieces(b"ab"))
    with (blobs.root / "uploads" / upload).open("ab") as file:
        file.write(b"c")
    assert (await blobs.commit(upload, Digest.of(b"abc"))).size == 3


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


async def test_an_upload_that_the_disk_did_not_take_ends(blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_id = await blobs.begin_upload()
    await blobs.append(upload_id, 0, pieces(CONTENT))

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(Unavailable, match="Input/output error"):
            await blobs.commit(upload_id, DIGEST)
    # A second fsync would say that all is well: the bytes must be sent again.
    with pytest.raises(UploadNotFound):
        await blobs.commit(upload_id, DIGEST)
    assert await blobs.stat(DIGEST) is None
