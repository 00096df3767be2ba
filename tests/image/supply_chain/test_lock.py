import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from uv import find_uv_bin

from sanderling.image.packages.resolve import Wheel
from sanderling.image.supply_chain.contents import locked_wheels
from sanderling.image.supply_chain.lock import Lock, LockInvalid, pylock
from tests.image.supply_chain import world


def both() -> Lock:
    return Lock.of([world.contents(world.AMD64, conda=(world.conda(),)), world.contents(world.ARM64)])


def test_a_lock_reads_back_what_a_rebuild_needs() -> None:
    lock = Lock.parse(both().to_bytes("9"))
    here = lock.platforms["linux/amd64"]
    assert here.debian == world.contents(world.AMD64).debian
    assert here.python == world.contents(world.AMD64).python
    assert here.conda[0].sha256 == world.conda().sha256
    assert [(wheel.file_name, wheel.sha256) for wheel in here.wheels] == [
        (wheel.file_name, wheel.sha256) for wheel in world.contents(world.AMD64).wheels
    ]
    assert lock.to_bytes("9") == both().to_bytes("9")


def test_a_base_that_is_another_image_is_locked_by_its_digest() -> None:
    image = f"index.example/python@sha256:{world.sha256('base')}"
    lock = Lock.of([world.contents(world.AMD64, debian=(), suite="", base=image)])
    assert Lock.parse(lock.to_bytes("9")).platforms["linux/amd64"].base == image


def test_locks_of_platforms_become_one() -> None:
    one, two = (Lock.of([world.contents(platform)]) for platform in (world.AMD64, world.ARM64))
    assert one.merged(two).platforms.keys() == {"linux/amd64", "linux/arm64"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "other"}, "no lock of an image"),
        ({"schemaVersion": 2}, "version 2"),
        ({"platforms": []}, "cannot be read"),
        ({"platforms": {"linux/amd64": {}}}, "cannot be read: KeyError"),
    ],
)
def test_what_is_no_lock_is_refused_with_the_reason(change: dict[str, object], reason: str) -> None:
    document = json.loads(both().to_bytes("9")) | change
    with pytest.raises(LockInvalid, match=reason):
        Lock.parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [("sha256", "short"), ("sizeBytes", -1), ("file", "../numpy.whl"), ("url", "file:///etc/passwd")],
)
def test_a_lock_with_a_damaged_wheel_is_refused(name: str, value: object) -> None:
    document = json.loads(both().to_bytes("9"))
    document["platforms"]["linux/amd64"]["wheels"][0][name] = value
    with pytest.raises(LockInvalid):
        Lock.parse(json.dumps(document).encode())


def test_no_lock_at_all_is_refused_and_says_where_one_is_from() -> None:
    with pytest.raises(LockInvalid, match="sanderling image lock"):
        Lock.parse(b"not json")


def test_the_pylock_is_toml_with_every_wheel_and_no_place_of_this_machine() -> None:
    document = tomllib.loads(pylock(world.contents(world.AMD64), "9").decode())
    assert document["lock-version"] == "1.0"
    assert [package["name"] for package in document["packages"]] == ["joblib", "numpy"]
    assert document["packages"][0]["wheels"][0]["path"] == "./joblib-1.4.2-py3-none-any.whl"
    assert document["packages"][1]["wheels"][0]["url"].startswith("https://index.example/numpy")


def test_uv_installs_from_the_pylock(tmp_path: Path, make_wheel: Callable[..., Path]) -> None:
    import hashlib

    wheel = make_wheel("alpha", "1.0", {"alpha/__init__.py": b"version = '1.0'"})
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wheels = locked_wheels([Wheel("alpha", "1.0", wheel.as_uri(), None, None)], {wheel.name: digest})
    contents = world.contents(world.AMD64, wheels=wheels)
    (tmp_path / "pylock.toml").write_bytes(pylock(contents, "9"))
    command = [find_uv_bin(), "pip", "install", "--offline", "-r", "pylock.toml", "--target", "out"]
    command += ["--python", sys.executable, "--python-platform", "x86_64-manylinux_2_36", "--cache-dir", "cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "alpha" / "__init__.py").exists()
