import os
from pathlib import Path

import pytest

from sanderling.errors import Invalid
from sanderling.image import Log
from sanderling.image.layers.layer_file import FileChanged
from sanderling.image.layers.store import LayerStore
from sanderling.image.layers.tree import file_entry
from sanderling.image.parts import at_rest, hash_file


@pytest.fixture
def layers(tmp_path: Path, log: Log) -> LayerStore:
    return LayerStore(tmp_path / "cache", log, None)


def test_a_file_that_changes_between_its_hash_and_its_layer_leaves_no_layer_under_a_wrong_name(
    tmp_path: Path, layers: LayerStore
) -> None:
    model = tmp_path / "model.pkl"
    model.write_bytes(b"first")
    opened = at_rest([file_entry("model.pkl", model)], [model])
    inputs = [hash_file(model)]
    before = model.stat()
    model.write_bytes(b"other")
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(FileChanged, match=r"model\.pkl changed while the image was being built"):
        layers.ensure("model", inputs, "model", opened)
    assert layers.find(layers.key("model", inputs, compiled=False)) is None


def test_a_file_that_goes_away_meanwhile_is_said(tmp_path: Path, layers: LayerStore) -> None:
    model = tmp_path / "model.pkl"
    model.write_bytes(b"first")
    opened = at_rest([file_entry("model.pkl", model)], [model])
    model.unlink()
    with pytest.raises(Invalid, match="cannot be read any more"):
        layers.ensure("model", [1], "model", opened)
