"""linux/arm/v7: an image made on this machine and run by qemu's user mode, and what is said where no wheel is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.image import BuildSettings, Log, Recipe, SourceFile, build
from sanderling.image.debian.archive import DebianArchive
from sanderling.image.debian.lock import write_locks
from sanderling.image.debian.mirrors import choose_mirrors
from sanderling.image.debian.versions import BOOKWORM
from sanderling.image.downloads import Downloads
from sanderling.image.layout import write_layout
from sanderling.image.packages.uv_errors import NoWheels
from sanderling.oci import Platform
from tests.image.unpack import run, unpack
from tests.registry.clients.tools import needed

ARMV7 = Platform("linux", "arm", "v7")
SCORE = b"""
import importlib.metadata, json, platform, sys
import beta

def init():
    pass

def run(raw_data):
    return {
        "machine": platform.machine(),
        "bits": sys.maxsize.bit_length() + 1,
        "beta": [beta.version, beta.__cached__, importlib.metadata.version("beta")],
        "data": json.loads(raw_data),
    }
"""
# What is in the way of a base most easily: libraries that Python's own modules load.
MODULES = """
import bz2, ctypes, curses, decimal, hashlib, lzma, readline, sqlite3, ssl, struct, uuid, zlib, zoneinfo
print(len(ssl.create_default_context().get_ca_certs()) > 100, zoneinfo.ZoneInfo("Europe/Berlin"),
      struct.calcsize("P"), sqlite3.connect(":memory:").execute("select 6 * 7").fetchone())
"""

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def base_lock(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lock of Debian's main archive alone: not every mirror has a whole security archive for armhf."""
    folder = tmp_path_factory.mktemp("armhf")
    log = Log(lambda event: None)
    downloads = Downloads(FileBlobs(shared_cache / "downloads"), log)
    main_alone = replace(BOOKWORM, suites=BOOKWORM.suites[:1])
    archive = DebianArchive(folder, downloads, choose_mirrors(None, None), log, version=main_alone)
    (folder / "base.json").write_bytes(write_locks([archive.lock("armhf")]))
    downloads.close()
    return folder / "base.json"


@pytest.mark.slow
def test_an_image_for_32_bit_arm_scores(
    tmp_path: Path,
    shared_cache: Path,
    base_lock: Path,
    log: Log,
    make_index: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emulator = needed("qemu-arm-static", "qemu-user-static")
    monkeypatch.setenv("UV_DEFAULT_INDEX", make_index(("alpha", "1.0", ["beta"]), ("beta", "2.0", [])))
    (tmp_path / "score.py").write_bytes(SCORE)
    (tmp_path / "requirements.txt").write_text("alpha\n")
    (tmp_path / "sample.json").write_text('{"data": [1.5]}')
    wanted = Recipe(
        "demo/small:1",
        SourceFile("score.py", tmp_path / "score.py"),
        requirements=SourceFile("requirements.txt", tmp_path / "requirements.txt"),
        platforms=(ARMV7,),
    )
    image, blobs = build(wanted, BuildSettings(shared_cache, base_lock=base_lock), log)
    assert str(image.descriptor.platform) == "linux/arm/v7"
    write_layout(image, blobs, tmp_path / "out", "x")
    config = unpack(tmp_path / "out", tmp_path / "root")
    assert (config["architecture"], config["variant"]) == ("arm", "v7")
    check = [*config["config"]["Entrypoint"], "--check", "--report-fd", "1", "--sample", "/run/sample.json"]
    files = {"sample.json": tmp_path / "sample.json"}
    told = run(tmp_path / "root", config, *check, emulator=emulator, files=files)
    assert json.loads(json.loads(told.splitlines()[-1])["answer"]["text"]) == {
        "machine": "armv7l",
        "bits": 32,
        "beta": ["2.0", "/usr/lib/python3/dist-packages/beta/__pycache__/__init__.cpython-311.pyc", "2.0"],
        "data": {"data": [1.5]},
    }
    told = run(tmp_path / "root", config, "/usr/bin/python3", "-c", MODULES, emulator=emulator)
    assert told == "True Europe/Berlin 4 (42,)\n"


def test_packages_without_a_wheel_for_32_bit_arm_are_listed_with_what_to_do(
    tmp_path: Path, shared_cache: Path, score: Path, base_lock: Path, log: Log
) -> None:
    (tmp_path / "myenv.yml").write_text("dependencies:\n  - python=3.11\n  - pip:\n    - scikit-learn\n")
    wanted = Recipe(
        "demo/digits:1",
        SourceFile("score.py", score),
        SourceFile("myenv.yml", tmp_path / "myenv.yml"),
        platforms=(ARMV7,),
    )
    with pytest.raises(NoWheels) as caught:
        build(wanted, BuildSettings(shared_cache, base_lock=base_lock), log)
    assert set(caught.value.packages) >= {"scikit-learn", "numpy", "scipy"}
    text = caught.value.message
    assert " packages have no wheel for linux/arm/v7 with Python 3.11; sources are not built: " in text
    assert "scikit-learn (myenv.yml, line 4): none of its versions (the newest is " in text
    assert text.endswith(
        "build a wheel of it for the platform and name that by its path, or give an index that has one"
    )
