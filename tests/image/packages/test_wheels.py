import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.layers.tree import Entry, Member, PathRefused
from sanderling.image.packages.wheels import BrokenWheel, SamePath, open_wheel
from sanderling.image.parts import merge

MakeWheel = Callable[..., Path]


def read(path: Path) -> dict[str, Entry]:
    with open_wheel(path, path.name, DEBIAN_12) as entries:
        return {entry.path: entry for entry in entries}


def content(path: Path, place: str) -> bytes:
    with open_wheel(path, path.name, DEBIAN_12) as entries:
        found = next(entry.content for entry in entries if entry.path == place)
        if isinstance(found, Member):
            with found.open() as file:
                return file.read()
        assert isinstance(found, bytes)
        return found


def test_a_wheel_is_installed_into_the_site_folder(make_wheel: MakeWheel) -> None:
    path = make_wheel("thing", "1.0", {"thing/__init__.py": b"x = 1\n", "thing/data.bin": b"\x00" * 9})
    entries = read(path)
    assert entries[f"{DEBIAN_12.site}/thing/__init__.py"].mode == 0o644
    assert content(path, f"{DEBIAN_12.site}/thing/data.bin") == b"\x00" * 9
    assert content(path, f"{DEBIAN_12.site}/thing-1.0.dist-info/INSTALLER") == b"sanderling\n"


def test_scripts_and_entry_points_become_programs(make_wheel: MakeWheel) -> None:
    points = b"[console_scripts]\nGo-Thing = thing.cli:main.run [extra]\nbad = thing; import os:x\n[other]\na = b:c\n"
    path = make_wheel(
        "thing",
        "1.0",
        {"thing-1.0.data/scripts/old": b"#!python\nprint(1)\n", "thing-1.0.dist-info/entry_points.txt": points},
    )
    entries = read(path)
    assert content(path, "usr/bin/old") == b"#!/usr/bin/python3\nprint(1)\n"
    assert entries["usr/bin/old"].mode == 0o755
    assert b"from thing.cli import main\nsys.exit(main.run())" in content(path, "usr/bin/Go-Thing")
    assert not [path for path in entries if path.endswith("/bad")]


def test_the_data_schemes_go_to_their_places(make_wheel: MakeWheel) -> None:
    data = "thing-1.0.data"
    path = make_wheel(
        "thing", "1.0", {f"{data}/purelib/a.py": b"", f"{data}/data/share/x": b"", f"{data}/headers/h.h": b""}
    )
    entries = read(path)
    assert f"{DEBIAN_12.site}/a.py" in entries
    assert "usr/share/x" in entries
    assert not [place for place in entries if place.endswith("h.h")]


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/../../b", "a\\..\\b", "a//b", "a/./b", "thing-1.0.data/odd/x", "a\nb"],
)
def test_a_path_outside_or_odd_is_refused(make_wheel: MakeWheel, name: str) -> None:
    with pytest.raises(PathRefused, match="the path"):
        read(make_wheel("thing", "1.0", {name: b"x"}))


def test_data_that_climbs_into_system_folders_is_refused(make_wheel: MakeWheel) -> None:
    with pytest.raises(PathRefused):
        read(make_wheel("thing", "1.0", {"thing-1.0.data/data/../../etc/x": b"x"}))


def test_a_broken_archive_is_refused(tmp_path: Path, make_wheel: MakeWheel) -> None:
    noise = random.Random(1).randbytes(5000)
    whole = make_wheel("thing", "1.0", {"thing/data": noise}).read_bytes()
    damaged = whole[:2000] + bytes(20) + whole[2020:]
    for broken in (b"", b"no zip", whole[:-30], damaged):
        path = tmp_path / "broken-1.0-py3-none-any.whl"
        path.write_bytes(broken)
        with pytest.raises(BrokenWheel, match="broken archive"):
            content(path, f"{DEBIAN_12.site}/thing/data")


def test_one_path_twice_in_a_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.py", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.py", "2")
    with pytest.raises(BrokenWheel, match="twice"):
        read(path)


def test_two_wheels_with_one_path_are_refused_unless_the_files_are_equal() -> None:
    same = {"one": [Entry("a/__init__.py", "file", 0o644, b"")], "two": [Entry("a/__init__.py", "file", 0o644, b"")]}
    assert len(merge(same)) == 1
    same["two"] = [Entry("a/__init__.py", "file", 0o644, b"x = 1")]
    with pytest.raises(SamePath, match=r"one and two both bring /a/__init__\.py"):
        merge(same)
