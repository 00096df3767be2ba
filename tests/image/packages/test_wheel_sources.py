from collections.abc import Callable
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, NotFound
from sanderling.image import Environment, Event, Log
from sanderling.image.downloads import Downloads, Source
from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.packages.resolve import Resolver
from sanderling.image.packages.wheel_sources import NotInWheelhouse, NotOnThisMachine, WheelSources
from sanderling.oci import Digest, Platform

AMD64 = Platform("linux", "amd64")
NOWHERE = "http://127.0.0.1:9/simple"


@pytest.fixture
def house(tmp_path: Path, make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse with a blank in its name, on a machine whose index would never answer."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", NOWHERE)
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", NOWHERE)
    folder = tmp_path / "wheel house"
    folder.mkdir()
    make_wheel("alpha", "1.0", {"alpha.py": b""}, requires=["beta"], folder=folder)
    make_wheel("beta", "2.0", {"beta.py": b""}, folder=folder)
    make_wheel("delta", "1.0", {"delta.py": b""}, tag="cp39-cp39-win_amd64", folder=folder)
    return folder


def resolver(tmp_path: Path, log: Log, sources: WheelSources) -> Resolver:
    return Resolver(tmp_path / "cache", log, sources)


def test_a_wheelhouse_is_enough_and_no_index_is_asked(tmp_path: Path, house: Path, log: Log) -> None:
    environment = Environment(requirements=("alpha",), options=(f"--extra-index-url {NOWHERE}",))
    wheels = resolver(tmp_path, log, WheelSources(house)).resolve(environment, AMD64, DEBIAN_12)
    assert [(wheel.name, wheel.version) for wheel in wheels] == [("alpha", "1.0"), ("beta", "2.0")]
    source = Source(wheels[0].file_name, wheels[0].url, wheels[0].digest)
    downloads = Downloads(FileBlobs(tmp_path / "blobs"), log, is_offline=True)
    digest = downloads.ensure_all([source], "wheels", "1 wheel")[source.name]
    assert downloads.blobs.read(digest) == (house / source.name).read_bytes()


def test_a_wheel_that_came_later_is_seen(
    tmp_path: Path, house: Path, log: Log, make_wheel: Callable[..., Path]
) -> None:
    environment = Environment(requirements=("alpha",))
    sources = WheelSources(house)
    resolver(tmp_path, log, sources).resolve(environment, AMD64, DEBIAN_12)
    make_wheel("beta", "3.0", {"beta.py": b""}, folder=house)
    wheels = resolver(tmp_path, log, sources).resolve(environment, AMD64, DEBIAN_12)
    assert wheels[1].version == "3.0"


@pytest.mark.parametrize(
    ("requirement", "package", "words"),
    [
        ("gamma", "gamma", "there is none of that name"),
        ("beta>=9", "beta", "none is beta>=9"),
        ("delta", "delta", "none is for this platform and Python"),
    ],
)
def test_what_the_wheelhouse_lacks_is_named(
    tmp_path: Path, house: Path, log: Log, requirement: str, package: str, words: str
) -> None:
    with pytest.raises(NotInWheelhouse, match=words) as told:
        resolver(tmp_path, log, WheelSources(house)).resolve(Environment(requirements=(requirement,)), AMD64, DEBIAN_12)
    assert told.value.package == package
    assert isinstance(told.value, Invalid)


def test_a_wheelhouse_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder that is there"):
        WheelSources(tmp_path / "nothing")


def test_offline_an_old_choice_serves_and_what_was_never_chosen_is_named(
    tmp_path: Path,
    log: Log,
    events: list[Event],
    make_index: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", make_index(("alpha", "1.0", [])))
    environment = Environment(requirements=("alpha",))
    first = resolver(tmp_path, log, WheelSources()).resolve(environment, AMD64, DEBIAN_12)
    offline = resolver(tmp_path, log, WheelSources(is_offline=True))
    assert offline.resolve(environment, AMD64, DEBIAN_12) == first
    assert "as chosen at" in events[-1].text
    monkeypatch.setenv("UV_DEFAULT_INDEX", NOWHERE)
    with pytest.raises(NotOnThisMachine, match="package 'alpha' is not on this machine"):
        offline.resolve(environment, AMD64, DEBIAN_12)


def test_offline_a_file_that_is_not_in_the_cache_is_named_and_nothing_is_asked(tmp_path: Path, log: Log) -> None:
    downloads = Downloads(FileBlobs(tmp_path / "blobs"), log, is_offline=True)
    source = Source("libc6", "http://user:secret@127.0.0.1:9/libc6.deb", Digest.parse(f"sha256:{'a' * 64}"), 5)
    with pytest.raises(NotOnThisMachine, match="libc6 is not on this machine") as told:
        downloads.ensure_all([source], "base", "1 package")
    assert "secret" not in told.value.message
