from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, NotFound
from sanderling.image import Log, Recipe, SourceFile
from sanderling.image.bases.choose import BaseSources, choose_base, debian_archive
from sanderling.image.debian.lock import BaseLock, LockInvalid, write_locks
from sanderling.image.debian.packages import Package
from sanderling.image.debian.versions import BOOKWORM, TRIXIE, DebianVersion
from sanderling.image.downloads import Downloads
from sanderling.image.interpreter import Interpreter
from sanderling.oci import Platform

AMD64 = (Platform("linux", "amd64"),)


class Choice:
    """Takes the first Python of the wished version; remembers what there was."""

    def __init__(self, version: str | None) -> None:
        self.version = version
        self.possible: list[str] = []

    def __call__(self, possible: Sequence[Interpreter]) -> Interpreter:
        self.possible = [python.version for python in possible]
        return next(python for python in possible if self.version in (None, python.version))


def lock_file(folder: Path, debian: DebianVersion) -> Path:
    packages = tuple(
        Package(name, "1", f"pool/{name}.deb", "ab" * 32, 1, "", "", "main") for name in sorted(debian.wanted)
    )
    path = folder / "base.lock.json"
    path.write_bytes(write_locks([BaseLock("amd64", datetime(2026, 1, 1, tzinfo=UTC), packages, {}, debian.codename)]))
    return path


@pytest.mark.parametrize(("version", "debian"), [(None, BOOKWORM), ("3.11", BOOKWORM), ("3.13", TRIXIE)])
def test_the_wanted_python_chooses_the_version_of_debian(
    tmp_path: Path, log: Log, version: str | None, debian: DebianVersion
) -> None:
    choose = Choice(version)
    with closing(Downloads(FileBlobs(tmp_path / "downloads"), log)) as downloads:
        maker = choose_base(None, AMD64, choose, BaseSources(tmp_path), downloads, log)
        assert debian_archive(choose, BaseSources(tmp_path), downloads, log).version is debian
    assert choose.possible == ["3.11", "3.13"]
    assert maker.python == debian.python


def test_a_base_lock_says_which_version_of_debian_there_is(tmp_path: Path, log: Log) -> None:
    sources = BaseSources(tmp_path, base_lock=lock_file(tmp_path, TRIXIE))
    choose = Choice(None)
    with closing(Downloads(FileBlobs(tmp_path / "downloads"), log)) as downloads:
        archive = debian_archive(choose, sources, downloads, log)
        assert archive.version is TRIXIE
        assert archive.lock("amd64").release == "trixie"
        with pytest.raises(Invalid, match="a base lock names Debian packages, and the base is another image"):
            choose_base("python:3.12-slim", AMD64, choose, sources, downloads, log)
    assert choose.possible == ["3.13"]


def test_a_base_lock_that_is_missing_or_broken_is_named(tmp_path: Path, log: Log) -> None:
    with closing(Downloads(FileBlobs(tmp_path / "downloads"), log)) as downloads:
        with pytest.raises(NotFound, match=r"the base lock gone\.json is not there"):
            debian_archive(Choice(None), BaseSources(tmp_path, base_lock=tmp_path / "gone.json"), downloads, log)
        with pytest.raises(Invalid, match="cannot be read"):
            debian_archive(Choice(None), BaseSources(tmp_path, base_lock=tmp_path), downloads, log)
        (tmp_path / "odd.json").write_text("{}")
        with pytest.raises(LockInvalid, match=r"odd\.json"):
            debian_archive(Choice(None), BaseSources(tmp_path, base_lock=tmp_path / "odd.json"), downloads, log)


@pytest.mark.parametrize(
    ("base", "words"),
    [("scratch", "'scratch' is empty"), ("no name", "the base is not an image"), ("x@sha256:00", "not an image")],
)
def test_a_name_that_can_be_no_base_is_refused_with_the_recipe(tmp_path: Path, base: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        Recipe("demo/digits:1", SourceFile("score.py", tmp_path), base=base)


def test_a_recipe_keeps_its_base_in_json_and_older_documents_have_none(tmp_path: Path) -> None:
    recipe = Recipe("demo/digits:1", SourceFile("score.py", tmp_path), base="python:3.12-slim")
    assert Recipe.from_json(recipe.to_json()) == recipe
    older = {key: value for key, value in recipe.to_json().items() if key != "base"}
    assert Recipe.from_json(older).base is None
