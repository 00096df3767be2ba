from pathlib import Path

import pytest

from sanderling.errors import Unavailable
from sanderling.image.local.engine import NoEngine, find_engine


def program(folder: Path, name: str, text: str) -> None:
    """A program that answers as an engine's own does."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_without_an_engine_each_is_named_with_its_reason(path: Path) -> None:
    program(path, "docker", "echo noise >&2; echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(NoEngine, match="docker: Cannot connect to the Docker daemon; podman is not installed"):
        find_engine()


def test_podman_is_taken_when_docker_does_not_run(path: Path) -> None:
    program(path, "docker", "exit 1")
    program(path, "podman", "echo linux/arm64")
    found = find_engine()
    assert (Path(found.program).name, str(found.platform)) == ("podman", "linux/arm64")


def test_what_the_engine_says_against_an_image_is_said(path: Path) -> None:
    program(path, "docker", 'if [ "$1" = version ]; then echo linux/amd64; else echo "no space left" >&2; exit 1; fi')
    with pytest.raises(Unavailable, match="docker did not take the image: no space left"):
        find_engine().load(path / "image.tar")
