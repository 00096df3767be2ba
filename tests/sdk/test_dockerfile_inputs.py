"""Which files are sent with a Dockerfile."""

import os
from pathlib import Path

import pytest

from sanderling.errors import Invalid, NotFound
from sanderling.sdk.dockerfile_inputs import files_copied_by


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in ("a.txt", "b.txt", "conf/x.yml", "conf/deep/y.yml", "conf/z.pyc", "secret/key"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


def paths(folder: Path, text: str) -> list[str]:
    (folder / "Dockerfile").write_text(text)
    return [file.path for file in files_copied_by(folder / "Dockerfile")]


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("ENV A=1", []),
        ("COPY a.txt /x", ["a.txt"]),
        ('COPY conf /x\nADD ["b.txt", "/y"]', ["b.txt", "conf/deep/y.yml", "conf/x.yml", "conf/z.pyc"]),
        ("COPY *.txt c*/*.yml /x/", ["a.txt", "b.txt", "conf/x.yml"]),
        ("ENV N=a\nCOPY $N.txt /x", ["a.txt"]),
        ("COPY gone /x", []),
    ],
)
def test_those_that_its_steps_name_and_no_others(folder: Path, text: str, sent: list[str]) -> None:
    assert paths(folder, text) == sent


def test_all_that_dockerignore_leaves(folder: Path) -> None:
    (folder / ".dockerignore").write_text("secret\n**/*.pyc\n*.txt\n!b.txt\n.dockerignore\nDockerfile\n")
    assert paths(folder, "COPY . /x") == ["b.txt", "conf/deep/y.yml", "conf/x.yml"]
    (folder / "Dockerfile.dockerignore").write_text("*\n!a.txt\n")
    assert paths(folder, "COPY . /x") == ["a.txt"]


def test_links_stay_in_the_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "conf" / "link").symlink_to("../a.txt")
    assert "conf/link" in paths(folder, "COPY conf /x")
    (folder / "conf" / "out").symlink_to(tmp_path_factory.mktemp("other"))
    with pytest.raises(Invalid, match="conf/out is a link that leads out"):
        paths(folder, "COPY conf /x")
    assert paths(folder, "COPY a.txt /x") == ["a.txt"]


def test_a_pipe_that_is_not_wanted_is_in_no_one_s_way(folder: Path) -> None:
    os.mkfifo(folder / "secret" / "pipe")
    assert paths(folder, "COPY secret/key /x") == ["secret/key"]


def test_a_dockerfile_that_is_none_or_not_there_is_named(folder: Path) -> None:
    with pytest.raises(Invalid, match=r"Dockerfile, line 1: 'NOPE' is no instruction"):
        paths(folder, "NOPE")
    with pytest.raises(NotFound, match="Missing is not there"):
        files_copied_by(folder / "Missing")
