import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.image.layers.layer_file import FileChanged, write_layer
from sanderling.image.layers.tree import Entry, Member, PathRefused, file_entry, safe_path

ENTRIES = [
    Entry("usr/bin/tool", "file", 0o755, b"#!/bin/sh\n"),
    Entry("b/link", "link", 0o777, target="../usr/bin/tool"),
    Entry("tmp", "folder", 0o1777),
    Entry("home/me", "folder", 0o700, owner=65532),
    Entry("b/" + "long/" * 40 + "name.py", "file", 0o644, b"x" * 3000),
    Entry("b/grüße.txt", "file", 0o644, "ü".encode()),
]


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


def test_a_layer_is_a_gzip_of_a_tar_with_the_promised_digests(blobs: FileBlobs) -> None:
    layer = write_layer(ENTRIES, blobs, "a layer")
    packed = blobs.read(layer.digest)
    plain = gzip.decompress(packed)
    assert (len(packed), len(plain)) == (layer.size_bytes, layer.plain_bytes)
    assert layer.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert len(plain) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        members = {member.name: member for member in tar}
    assert all(member.mtime == 0 and member.uname == "" for member in members.values())
    assert members["usr/bin/tool"].mode == 0o755
    assert members["tmp"].mode == 0o1777
    assert (members["home/me"].uid, members["home/me"].gid) == (65532, 65532)
    assert members["b/link"].linkname == "../usr/bin/tool"
    assert {"b/grüße.txt", ENTRIES[4].path, "usr", "usr/bin"} <= members.keys()
    names = list(members)
    assert all(name.rpartition("/")[0] in ["", *names[:place]] for place, name in enumerate(names))


def test_the_order_of_entries_does_not_change_the_bytes(blobs: FileBlobs) -> None:
    assert write_layer(ENTRIES, blobs, "a").digest == write_layer(ENTRIES[::-1], blobs, "b").digest


def test_content_may_be_bytes_a_file_or_a_member_of_an_archive(blobs: FileBlobs, tmp_path: Path) -> None:
    data = b"0123456789" * 300_000
    source = tmp_path / "source"
    source.write_bytes(data)
    member = Member(lambda: io.BytesIO(data), len(data), 0)
    digests = {write_layer([file_entry("f", content)], blobs, "x").digest for content in (data, source, member)}
    assert len(digests) == 1


def test_a_file_that_is_not_as_long_as_it_was_is_refused_and_leaves_nothing(blobs: FileBlobs) -> None:
    for size in (5, 15):
        with pytest.raises(FileChanged, match="at rest"):
            write_layer([file_entry("f", Member(lambda: io.BytesIO(b"0123456789"), size, 0))], blobs, "x")
    assert list(blobs.digests()) == []


@pytest.mark.parametrize(
    "path", ["", ".", "..", "a/..", "/a", "a/", "a//b", "a\0b", "a\nb", "x" * 256, "a/" * 3000 + "b"]
)
def test_paths_that_have_no_place_in_an_image_are_refused(path: str) -> None:
    with pytest.raises(PathRefused):
        safe_path(path, "test")
