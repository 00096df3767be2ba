"""The synchronous face of a folder of blobs."""

import contextlib
import errno
import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from sanderling.blobs import BlobInfo, BlobNotFound, FileBlobs
from sanderling.blobs.writer import medium_errors
from sanderling.errors import Invalid, Unavailable
from sanderling.oci import Digest, DigestMismatch

CONTENT = b"a layer"
DIGEST = Digest.of(CONTENT)


def files_under(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_blob_is_found_under_its_digest_and_read_back(blobs: FileBlobs) -> None:
    assert blobs.find(DIGEST) is None
    assert blobs.put(CONTENT) == DIGEST
    assert blobs.find(DIGEST) == BlobInfo(DIGEST, len(CONTENT))
    assert blobs.read(DIGEST) == CONTENT
    assert blobs.path(DIGEST).read_bytes() == CONTENT


def test_putting_a_blob_twice_keeps_one(blobs: FileBlobs) -> None:
    blobs.put(CONTENT)
    blobs.put(CONTENT)
    assert list(blobs.digests()) == [BlobInfo(DIGEST, len(CONTENT))]


def test_a_writer_that_is_not_committed_leaves_nothing(blobs: FileBlobs) -> None:
    with blobs.writer() as writer:
        writer.write(CONTENT)
    with contextlib.suppress(RuntimeError), blobs.writer() as writer:
        writer.write(CONTENT)
        raise RuntimeError
    assert files_under(blobs.root) == []


def test_bytes_that_differ_from_their_digest_are_refused_and_leave_nothing(blobs: FileBlobs) -> None:
    with blobs.writer() as writer:
        writer.write(b"another layer")
        with pytest.raises(DigestMismatch) as refused:
            writer.commit(DIGEST)
    assert refused.value.expected == DIGEST
    assert refused.value.actual == Digest.of(b"another layer")
    assert files_under(blobs.root) == []


def test_a_writer_takes_sha512_too(blobs: FileBlobs) -> None:
    expected = Digest.of(CONTENT, "sha512")
    with blobs.writer("sha512") as writer:
        writer.write(CONTENT)
        assert writer.size == len(CONTENT)
        assert writer.commit(expected) == expected
    assert [info.digest for info in blobs.digests()] == [expected]


def test_a_file_is_copied_in_and_verified(blobs: FileBlobs, tmp_path: Path) -> None:
    source = tmp_path / "model.pkl"
    source.write_bytes(CONTENT)
    assert blobs.put_file(source, DIGEST) == DIGEST
    with pytest.raises(DigestMismatch):
        blobs.put_file(source, Digest.of(b"else"))
    assert blobs.read(DIGEST) == CONTENT


def test_deleting_is_idempotent_and_says_whether_it_was_there(blobs: FileBlobs) -> None:
    blobs.put(CONTENT)
    assert blobs.delete(DIGEST)
    assert not blobs.delete(DIGEST)
    with pytest.raises(BlobNotFound) as missing:
        blobs.path(DIGEST)
    assert missing.value.digest == DIGEST


def test_reading_what_is_not_there_names_the_digest(blobs: FileBlobs) -> None:
    with pytest.raises(BlobNotFound, match=DIGEST):
        blobs.read(DIGEST)


def test_a_large_blob_is_not_read_at_once(blobs: FileBlobs) -> None:
    digest = blobs.put(b"")
    os.truncate(blobs.path(digest), (64 << 20) + 1)
    with pytest.raises(Invalid, match="stream it"):
        blobs.read(digest)


def test_blobs_are_for_the_owner_alone(blobs: FileBlobs) -> None:
    path = blobs.path(blobs.put(CONTENT))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(blobs.root.stat().st_mode) == 0o700


def test_only_stale_leftovers_of_dead_writers_are_removed(blobs: FileBlobs) -> None:
    blobs.put(CONTENT)
    old, new = blobs.root / "temporary" / "write-old", blobs.root / "temporary" / "write-new"
    for leftover in (old, new):
        leftover.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    assert blobs.remove_stale(before=2000) == 1
    assert not old.exists()
    assert new.exists()
    assert blobs.find(DIGEST)


def test_a_disk_that_fails_makes_the_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        FileBlobs(tmp_path / "file" / "blobs")
    with pytest.raises(Unavailable, match="disk is full"), medium_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_only_a_blob_that_was_committed_before_the_moment_is_removed(blobs: FileBlobs) -> None:
    blobs.put(CONTENT)
    os.utime(blobs.path(DIGEST), (1000, 1000))
    assert not blobs.delete_older(DIGEST, 1000)
    assert blobs.delete_older(DIGEST, 1001)
    assert blobs.find(DIGEST) is None
    assert not blobs.delete_older(DIGEST, 1001)
    assert not blobs.delete_older(Digest.of(b"never was here"), 1001)


def test_a_commit_of_what_is_there_makes_it_new_again(blobs: FileBlobs) -> None:
    blobs.put(CONTENT)
    os.utime(blobs.path(DIGEST), (1000, 1000))
    blobs.put(CONTENT)
    assert not blobs.delete_older(DIGEST, 2000)
    assert blobs.read(DIGEST) == CONTENT


def test_a_removal_waits_for_a_commit_to_the_same_folder_and_then_sees_it(blobs: FileBlobs) -> None:
    blobs.put(CONTENT)
    path = blobs.path(DIGEST)
    os.utime(path, (1000, 1000))
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_SH)  # as a commit in another process holds it
    removed: list[bool] = []
    remover = threading.Thread(target=lambda: removed.append(blobs.delete_older(DIGEST, 2000)))
    remover.start()
    remover.join(0.2)
    assert remover.is_alive()
    os.utime(path)
    os.close(folder)
    remover.join(10)
    assert removed == [False]
    assert blobs.read(DIGEST) == CONTENT
