"""Layers laid out for the gate: shared, kept, and thrown away when nobody uses them."""

import gzip
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.image.gate import roots as roots_module
from sanderling.image.gate.roots import Roots
from sanderling.image.layout import DamagedLayer
from sanderling.oci import ImageConfig, Manifest
from tests.edge.worlds import file, folder, link, make_image, tar

BASE = tar([folder("usr"), file("usr/tool", b"1"), folder("var")])


def application(content: bytes) -> bytes:
    return tar([folder("var"), folder("var/azureml-app"), file("var/azureml-app/score.py", content)])


def image(blobs: FileBlobs, *layers: bytes) -> tuple[Manifest, ImageConfig]:
    made = make_image(*layers)
    for content in made.blobs.values():
        blobs.put(content)
    return made.manifest, made.config


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


def test_a_changed_application_takes_the_root_that_is_there(tmp_path: Path, blobs: FileBlobs) -> None:
    roots = Roots(tmp_path, blobs)
    model = tar([folder("var"), folder("var/azureml-app"), file("var/azureml-app/azureml-models/m/1/f", b"m")])
    with roots.opened(*image(blobs, BASE, model, application(b"one"))) as one:
        assert one.application is not None
        assert (one.application / "score.py").read_bytes() == b"one"
        assert (one.application / "azureml-models/m/1/f").read_bytes() == b"m"
        made = one.root.stat().st_ino
        with roots.opened(*image(blobs, BASE, model, application(b"two"))) as two:
            assert two.application is not None
            assert (two.application / "score.py").read_bytes() == b"two"
            assert (one.application / "score.py").read_bytes() == b"one"
    assert two.root.stat().st_ino == made
    assert not list(tmp_path.glob("gate/*/uses/*"))


@pytest.mark.parametrize(
    "lower",
    [
        tar([file("usr/x", b"1"), folder("var/azureml-app"), file("var/azureml-app/theirs", b"1")]),
        tar([folder("data"), link("var", "data")]),
    ],
    ids=["files in the application's folder", "a link on the way"],
)
def test_a_base_with_something_in_the_applications_folder_is_merged_whole(
    tmp_path: Path, blobs: FileBlobs, lower: bytes
) -> None:
    with Roots(tmp_path, blobs).opened(*image(blobs, lower, application(b"one"))) as laid:
        assert laid.application is None
        assert (laid.root / "var/azureml-app/score.py").read_bytes() == b"one"


def test_a_damaged_layer_is_named_and_nothing_of_it_stays(tmp_path: Path, blobs: FileBlobs) -> None:
    manifest, config = image(blobs, BASE)
    other = gzip.compress(tar([file("usr/other", b"2")]))
    blobs.path(manifest.layers[0].digest).write_bytes(other)
    with pytest.raises(DamagedLayer), Roots(tmp_path, blobs).opened(manifest, config):
        pass
    assert not list(tmp_path.glob("gate/*/layers/*"))


def test_what_nobody_uses_is_thrown_away_past_the_limits(
    tmp_path: Path, blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots_module, "KEPT_ROOTS", 1)
    monkeypatch.setattr(roots_module, "KEPT_BYTES", 250_000)
    roots = Roots(tmp_path, blobs)
    (tmp_path / "gate" / "an-earlier-boot" / "layers").mkdir(parents=True)
    with roots.opened(*image(blobs, tar([file("usr/a", bytes(100_000))]))) as used:
        for number in range(4):
            with roots.opened(*image(blobs, tar([file(f"usr/{number}", bytes(100_000))]))):
                pass
            assert (used.root / "usr/a").stat().st_size == 100_000
    (boot,) = [entry for entry in (tmp_path / "gate").iterdir() if entry.is_dir()]
    assert boot.name != "an-earlier-boot"
    assert len(list((boot / "layers").iterdir())) == 2
    assert len(list((boot / "roots").iterdir())) <= 2
