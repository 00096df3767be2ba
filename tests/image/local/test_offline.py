import json
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, NotFound
from sanderling.image import Event, Log
from sanderling.image.local.offline import OfflineFolder, OfflineFolderInvalid, write


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path, blobs: FileBlobs, log: Log) -> OfflineFolder:
    """A folder with one wheel and one Debian package."""
    files = {"wheels/alpha-1.0-py3-none-any.whl": b"wheel", "debian/libc6_2.36_amd64.deb": b"package"}
    carried = {place: blobs.path(blobs.put(content)) for place, content in files.items()}
    return write(tmp_path / "carried", carried, b"{}", ["linux/amd64"], "3.11", log)


def test_what_was_filled_is_read_back_and_brought_into_another_cache(
    folder: OfflineFolder, tmp_path: Path, log: Log, events: list[Event]
) -> None:
    again = OfflineFolder.read(folder.folder)
    assert again == folder
    assert again.size_bytes == len(b"wheel") + len(b"package")
    again.check(["linux/amd64"])
    other = FileBlobs(tmp_path / "other")
    again.bring_in(other, log)
    assert [other.read(info.digest) for info in other.digests()] == [b"package"]
    assert "1 Debian package from" in events[-1].text
    (again.folder / "debian" / "libc6_2.36_amd64.deb").unlink()
    again.bring_in(other, log)  # what the cache has is not read again


def test_a_damaged_file_is_named_and_does_not_reach_the_cache(folder: OfflineFolder, tmp_path: Path, log: Log) -> None:
    for file in folder.files:
        path = folder.folder / file.path
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    other = FileBlobs(tmp_path / "other")
    with pytest.raises(OfflineFolderInvalid, match=r"wheels/alpha-1.0-py3-none-any.whl is damaged"):
        folder.check(["linux/amd64"])
    with pytest.raises(OfflineFolderInvalid, match=r"debian/libc6_2.36_amd64.deb is damaged"):
        folder.bring_in(other, log)
    assert not list(other.digests())


def test_a_missing_file_and_another_platform_are_named(folder: OfflineFolder, tmp_path: Path, log: Log) -> None:
    with pytest.raises(OfflineFolderInvalid, match="was filled for linux/amd64, and not for linux/arm64"):
        folder.check(["linux/amd64", "linux/arm64"])
    for part in ("wheels", "debian"):
        next((folder.folder / part).iterdir()).unlink()
    with pytest.raises(OfflineFolderInvalid, match=r"whl cannot be read: No such file"):
        folder.check(["linux/amd64"])
    with pytest.raises(OfflineFolderInvalid, match=r"deb cannot be read: No such file"):
        folder.bring_in(FileBlobs(tmp_path / "other"), log)


def test_a_second_filling_leaves_nothing_of_the_first(folder: OfflineFolder, blobs: FileBlobs, log: Log) -> None:
    carried = {"wheels/alpha-2.0-py3-none-any.whl": blobs.path(blobs.put(b"newer"))}
    write(folder.folder, carried, b"{}", ["linux/amd64"], "3.11", log)
    names = sorted(path.name for path in folder.folder.rglob("*") if path.is_file())
    assert names == ["alpha-2.0-py3-none-any.whl", "base.lock.json", "prefetch.json"]


def test_a_folder_with_something_else_is_not_filled_and_loses_nothing(
    tmp_path: Path, blobs: FileBlobs, log: Log
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(Invalid, match=r"holds notes\.txt, which prefetch did not put there"):
        write(tmp_path / "mine", {}, b"{}", ["linux/amd64"], "3.11", log)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"version": 99},
        {"files": [{"path": "../../etc/passwd", "sha256": "a" * 64, "sizeBytes": 1}]},
        {"files": [{"path": "wheels/x.whl", "sha256": "short", "sizeBytes": 1}]},
        {"files": "none"},
        {"platforms": None},
    ],
)
def test_a_listing_that_is_not_ours_is_refused(folder: OfflineFolder, change: dict[str, object]) -> None:
    place = folder.folder / "prefetch.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(Invalid):
        OfflineFolder.read(folder.folder)


def test_a_folder_that_was_not_filled_to_the_end_or_is_not_there_is_said(folder: OfflineFolder, tmp_path: Path) -> None:
    (folder.folder / "prefetch.json").unlink()
    with pytest.raises(OfflineFolderInvalid, match="it was not filled to the end"):
        OfflineFolder.read(folder.folder)
    with pytest.raises(NotFound, match="is not there; fill one"):
        OfflineFolder.read(tmp_path / "nothing")
