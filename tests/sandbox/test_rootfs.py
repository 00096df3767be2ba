import gzip
import os
from pathlib import Path

import pytest
from tests.edge.worlds import file, folder, link, tar

from sanderling.errors import Invalid
from sanderling.oci import Digest, media_types
from sanderling.sandbox.rootfs import build_rootfs, ensure_mount_point, resolve_inside
from sanderling.sandbox.unpack import unpack_layer


def merged(tmp_path: Path, *layers: bytes) -> Path:
    folders = []
    for number, layer in enumerate(layers):
        blob = tmp_path / f"blob{number}"
        blob.write_bytes(gzip.compress(layer))
        target = tmp_path / f"layer{number}"
        unpack_layer(blob, media_types.OCI_LAYER_GZIP, Digest.of(layer), target)
        folders.append(target)
    build_rootfs(folders, tmp_path / "root")
    return tmp_path / "root"


def test_an_upper_layer_replaces_and_adds(tmp_path: Path) -> None:
    root = merged(
        tmp_path,
        tar([file("a", b"old"), file("d/kept", b"1"), link("l", "a")]),
        tar([file("a", b"new"), file("d/more", b"2"), file("l", b"now a file")]),
    )
    assert (root / "a").read_bytes() == b"new"
    assert sorted(p.name for p in (root / "d").iterdir()) == ["kept", "more"]
    assert not (root / "l").is_symlink()
    assert (tmp_path / "layer0/fs/a").read_bytes() == b"old"


def test_whiteouts_hide_what_lower_layers_have(tmp_path: Path) -> None:
    root = merged(
        tmp_path,
        tar([file("gone", b"1"), file("dir/gone/deep", b"1"), file("opaque/old", b"1"), file("kept", b"1")]),
        tar([file(".wh.gone"), file("dir/.wh.gone"), file("opaque/new", b"2"), file("opaque/.wh..wh..opq")]),
    )
    assert not (root / "gone").exists()
    assert not (root / "dir/gone").exists()
    assert [p.name for p in (root / "opaque").iterdir()] == ["new"]
    assert (root / "kept").exists()
    assert not list(root.rglob(".wh.*"))


def test_a_whiteout_does_not_follow_a_link_out(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("kept")
    root = merged(tmp_path, tar([link("out", str(tmp_path / "outside"))]), tar([file("out/.wh.precious")]))
    assert (tmp_path / "outside/precious").read_text() == "kept"
    assert os.path.lexists(root / "out")


def test_a_folder_over_a_link_does_not_write_through_it(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    root = merged(tmp_path, tar([link("out", str(tmp_path / "outside"))]), tar([folder("out"), file("out/x", b"1")]))
    assert not list((tmp_path / "outside").iterdir())
    assert (root / "out/x").exists()


def test_links_are_resolved_as_inside_the_image(tmp_path: Path) -> None:
    root = merged(tmp_path, tar([folder("run"), link("var/run", "/run"), link("up", "../../.."), link("loop", "loop")]))
    assert resolve_inside(root, "/var/run/iotedge") == "run/iotedge"
    assert resolve_inside(root, "/up/etc/hosts") == "etc/hosts"
    with pytest.raises(Invalid, match="loop"):
        resolve_inside(root, "/loop/x")


def test_mount_points_are_made_inside_the_image_only(tmp_path: Path) -> None:
    root = merged(tmp_path, tar([link("data", "/etc/sanderling-test"), file("f", b"")]))
    assert ensure_mount_point(root, "/data", folder=True) == "etc/sanderling-test"
    assert (root / "etc/sanderling-test").is_dir()
    assert not Path("/etc/sanderling-test").exists()
    with pytest.raises(Invalid, match="cannot be mounted on"):
        ensure_mount_point(root, "/f/below", folder=True)
