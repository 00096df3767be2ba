import os
from pathlib import Path

import pytest

from sanderling.errors import Invalid, NotFound
from sanderling.sdk.hints import hints_of
from sanderling.sdk.walk import files_beside, schema_place, walk_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two files, one of them in a folder of its own."""
    made = tmp_path / "model"
    (made / "weights").mkdir(parents=True)
    (made / "b.json").write_text("{}")
    (made / "weights" / "a.bin").write_text("w")
    return made


def places(path: Path) -> list[str]:
    return [place for _, place in walk_files(path)]


def test_a_folders_files_come_in_the_order_of_their_names_below_its_own(folder: Path) -> None:
    assert places(folder) == ["model/b.json", "model/weights/a.bin"]


def test_a_file_is_itself(folder: Path) -> None:
    assert list(walk_files(folder / "b.json")) == [(folder / "b.json", "b.json")]


def test_links_inside_of_the_folder_are_followed_to_files_and_folders(folder: Path) -> None:
    (folder / "latest").symlink_to("weights")
    (folder / "c.json").symlink_to("b.json")
    assert places(folder) == ["model/b.json", "model/c.json", "model/latest/a.bin", "model/weights/a.bin"]


def test_a_folder_that_is_itself_a_link_is_the_one_that_was_named(folder: Path) -> None:
    link = folder.parent / "named"
    link.symlink_to(folder)
    assert places(link) == ["named/b.json", "named/weights/a.bin"]


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("weights/up", "..", "link to a folder that it is in"),
        ("self", "self", "leads to itself"),
        ("gone", "nowhere", "a link to nothing"),
        ("out", "/etc/passwd", "leads out of .*model, to /etc/passwd"),
        ("beside", "..", "leads out of"),
    ],
)
def test_a_link_that_no_image_can_hold_is_refused_by_name(folder: Path, name: str, target: str, words: str) -> None:
    (folder / name).symlink_to(target)
    with pytest.raises(Invalid, match=words) as told:
        places(folder)
    assert str(folder / name) in told.value.message
    assert hints_of(told.value)


def test_a_circle_of_two_links_ends(folder: Path) -> None:
    (folder / "one").mkdir()
    (folder / "one" / "two").symlink_to("../three")
    (folder / "three").mkdir()
    (folder / "three" / "four").symlink_to("../one")
    with pytest.raises(Invalid, match="the folder has no end"):
        places(folder)


def test_a_pipe_in_a_folder_is_refused_and_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(Invalid, match="model/pipe is a pipe, neither a file nor a folder"):
        places(folder)


def test_what_is_not_there_and_what_holds_nothing_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not there"):
        places(tmp_path / "nothing")
    with pytest.raises(Invalid, match="holds no file"):
        places(tmp_path)


def test_a_folder_beside_the_script_keeps_its_place_and_another_one_its_name(folder: Path, tmp_path: Path) -> None:
    beside = [place for _, place in files_beside(folder / "weights", tmp_path)]
    assert beside == ["model/weights/a.bin"]
    elsewhere = [place for _, place in files_beside(folder / "weights", tmp_path / "project")]
    assert elsewhere == ["weights/a.bin"]


def test_a_schema_keeps_its_place_below_the_script_and_is_refused_elsewhere(folder: Path) -> None:
    assert schema_place(folder / "weights" / "a.bin", folder / "weights" / "..") == "weights/a.bin"
    with pytest.raises(Invalid, match="not in the folder of the script"):
        schema_place(folder / "b.json", folder / "weights")
