"""Which locks are refused for which recipes; that the image is the same: `local/test_build_from_a_lock.py`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sanderling.blobs import FileBlobs
from sanderling.image.bases import Base
from sanderling.image.environment.environment import Environment, LocalWheel
from sanderling.image.interpreter import DEBIAN_12, DEBIAN_13
from sanderling.image.packages.lock import Wheel
from sanderling.image.packages.wheel_sources import ANY, WheelSources
from sanderling.image.rebuild import LockDiffers, Rebuild, read_lock
from sanderling.image.supply_chain.lock import Lock, LockInvalid
from tests.image.supply_chain import world

DIGEST = f"sha256:{world.sha256('base')}"
BASE = f"docker.io/library/python@{DIGEST}"
NUMPY = world.contents(world.AMD64).wheels[1]


def rebuild(
    folder: Path, *, environment: Environment | None = None, base: str | None = None, **changes: Any
) -> Rebuild:
    lock = Lock.of([world.contents(world.AMD64, **({"wheels": (NUMPY,)} | changes))])
    recipe = replace(world.recipe(folder / "inputs"), base=base)
    return Rebuild(lock, recipe, environment or Environment(), ANY, FileBlobs(folder / "downloads"))


def test_the_wheels_are_those_of_the_lock_whatever_else_there_is(tmp_path: Path) -> None:
    wanted = Environment(requirements=("numpy>=1", "NumPy<3", "absent; python_version<'3'"))
    assert rebuild(tmp_path, environment=wanted).wheels(world.AMD64, DEBIAN_12) == [NUMPY]


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("numpy<2", "it has numpy 2.1.0, and the environment wants numpy<2"),
        ("scipy", "wants 'scipy', which it has not"),
    ],
)
def test_an_environment_that_wants_something_else_is_refused(tmp_path: Path, requirement: str, said: str) -> None:
    made = rebuild(tmp_path, environment=Environment(requirements=(requirement,)))
    with pytest.raises(LockDiffers, match=said):
        made.wheels(world.AMD64, DEBIAN_12)


def test_conda_and_bases_of_another_kind_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(LockDiffers, match="it has conda packages, and only Debian's and wheels"):
        rebuild(tmp_path, conda=(world.conda(),))
    with pytest.raises(LockDiffers, match=f"it is of an image upon {BASE}; give that with --base"):
        rebuild_upon(tmp_path, None)
    with pytest.raises(LockDiffers, match=r"upon Debian, and the base is python:3\.12; leave --base out"):
        rebuild(tmp_path, base="python:3.12")


def rebuild_upon(folder: Path, base: str | None) -> Rebuild:
    lock = Lock.of([world.contents(world.AMD64, debian=(), suite="", base=BASE, wheels=())])
    recipe = replace(world.recipe(folder / "inputs"), base=base)
    return Rebuild(lock, recipe, Environment(), ANY, FileBlobs(folder / "downloads"))


def test_a_base_that_moved_on_is_refused(tmp_path: Path) -> None:
    made = rebuild_upon(tmp_path, "python:3.12")
    assert made.base_locks is None
    same = Base((), record={"kind": "oci", "name": "docker.io/library/python", "digest": DIGEST})
    made.check_base(world.AMD64, same)
    moved = replace(same, record=dict(same.record) | {"digest": f"sha256:{world.sha256('new')}"})
    with pytest.raises(LockDiffers, match="name that by digest"):
        made.check_base(world.AMD64, moved)


def test_a_lock_of_other_platforms_or_another_python_is_refused(tmp_path: Path) -> None:
    lock = Lock.of([world.contents(world.ARM64)])
    with pytest.raises(LockDiffers, match="linux/amd64 is wanted, and it is of an image for linux/arm64"):
        Rebuild(lock, world.recipe(tmp_path / "inputs"), Environment(), ANY, FileBlobs(tmp_path / "downloads"))
    with pytest.raises(LockDiffers, match=r"for Python 3\.11, and the base has 3\.13"):
        rebuild(tmp_path).wheels(world.AMD64, DEBIAN_13)
    with pytest.raises(LockDiffers, match="does not run on linux/amd64"):
        rebuild(tmp_path, wheels=world.contents(world.ARM64).wheels[1:]).wheels(world.AMD64, DEBIAN_12)


def test_a_wheel_that_was_a_local_file_is_found_by_name_and_sha256(tmp_path: Path) -> None:
    name = "joblib-1.4.2-py3-none-any.whl"
    wheel = Wheel("joblib", "1.4.2", name, world.sha256("joblib"), None)
    for folder, content in (("right", "joblib"), ("wrong", "other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content)
    lock, recipe = Lock.of([world.contents(world.AMD64, wheels=(wheel,))]), world.recipe(tmp_path / "inputs")
    blobs = FileBlobs(tmp_path / "downloads")
    for environment, sources in (
        (Environment(), WheelSources(tmp_path / "right")),
        (
            Environment(wheels=(LocalWheel(f"right/{name}", tmp_path / "right" / name),)),
            WheelSources(tmp_path / "wrong"),
        ),
    ):
        [found] = Rebuild(lock, recipe, environment, sources, blobs).wheels(world.AMD64, DEBIAN_12)
        assert found.source == tmp_path / "right" / name
    with pytest.raises(LockDiffers, match=f"{name} was a local file, and none with sha256 .* is here"):
        Rebuild(lock, recipe, Environment(), WheelSources(tmp_path / "wrong"), blobs).wheels(world.AMD64, DEBIAN_12)


def test_a_file_that_is_no_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text('{"kind": "else"}')
    with pytest.raises(LockInvalid, match="this is no lock of an image"):
        read_lock(tmp_path / "lock.json")
    with pytest.raises(LockInvalid, match="cannot be read: No such file"):
        read_lock(tmp_path / "nothing")
