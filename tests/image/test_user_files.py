import os
from pathlib import Path

import pytest

from sanderling.errors import Invalid
from sanderling.image import Log, SourceFile
from sanderling.image.layers.layer_file import FileChanged
from sanderling.image.layers.store import LayerStore, Stopped
from sanderling.image.user_files import UserFiles


@pytest.fixture
def layers(tmp_path: Path, log: Log) -> LayerStore:
    return LayerStore(tmp_path / "cache", log, None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"first")
    return path


def test_a_file_that_changes_between_its_hash_and_its_layer_leaves_no_layer_under_a_wrong_name(
    model: Path, layers: LayerStore
) -> None:
    found = UserFiles([SourceFile("model.pkl", model)], layers.check)
    before = model.stat()
    model.write_bytes(b"other")
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(FileChanged, match=r"model\.pkl changed while the image was being built"):
        layers.ensure("model", found.inputs, "model", found.opened)
    assert layers.find(layers.key("model", found.inputs, compiled=False)) is None


def test_a_file_that_goes_away_or_grows_meanwhile_is_said(model: Path, layers: LayerStore) -> None:
    found = UserFiles([SourceFile("model.pkl", model)], layers.check)
    model.write_bytes(b"longer than it was")
    with pytest.raises(FileChanged):
        layers.ensure("model", found.inputs, "model", found.opened)
    model.unlink()
    with pytest.raises(Invalid, match="cannot be read any more"):
        layers.ensure("model", found.inputs, "model", found.opened)


def test_what_cannot_be_read_is_said_before_anything_is_made(layers: LayerStore) -> None:
    with pytest.raises(Invalid, match="mem cannot be read"):
        UserFiles([SourceFile("model.pkl", Path("/proc/self/mem"))], layers.check)


def test_a_large_file_is_left_in_the_middle_when_the_build_stops(tmp_path: Path, layers: LayerStore) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    pieces = 0

    def stop_at_ten() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 64 + 10:
            layers.stop()
        layers.check()

    found = UserFiles([SourceFile("large.bin", large)], stop_at_ten)
    with pytest.raises(Stopped):
        layers.ensure("model", found.inputs, "model", found.opened)
    assert pieces < 100
    assert not list((tmp_path / "cache" / "layers" / "temporary").glob("*"))
