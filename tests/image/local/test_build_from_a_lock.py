"""`sanderling image build --lock`: the same image again, from nothing, when newer packages are there."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_cli
from tests.image.packages.index_server import Index

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]
ENVIRONMENT = "dependencies:\n  - pip:\n    - --index-url http://user:s3cret-word@{host}/simple/\n    - mine>=1.0\n"


def run(folder: Path, *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    done = run_cli("image", *arguments, cwd=folder, config=folder / "config")
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def build(folder: Path, cache: Path, *arguments: str | Path) -> dict[str, Any]:
    words = ("build", "--script", "score.py", "--model", "model.pkl", "--cache", cache, *arguments, "--json")
    told: dict[str, Any] = json.loads(run(folder, *words)[0])
    return told


def test_the_lock_of_an_image_gives_the_same_image_again(
    tmp_path: Path, score: Path, model: Path, shared_cache: Path
) -> None:
    index = Index()
    index.wheel("mine", "1.0", requires=["other"])
    index.wheel("other", "0.5")
    index.lock_with("user", "s3cret-word")
    with index.serving() as host:
        (tmp_path / "myenv.yml").write_text(ENVIRONMENT.format(host=host))
        first = build(tmp_path, shared_cache, "--env", "myenv.yml", "--output", "oci:out", "--attachments")
        run(tmp_path, "lock", "oci:out", "--output", "lock.json")
        assert "s3cret-word" not in (tmp_path / "lock.json").read_text()
        index.wheel("mine", "2.0")
        index.wheel("other", "0.6")
        fresh = tmp_path / "fresh"
        again = build(
            tmp_path, fresh, "--env", "myenv.yml", "--lock", "lock.json", "--output", "oci:again", "--attachments"
        )
        assert again["digest"] == first["digest"]
        run(tmp_path, "lock", "oci:again", "--output", "again.json")
        assert (tmp_path / "again.json").read_bytes() == (tmp_path / "lock.json").read_bytes()
        newer = build(tmp_path, fresh, "--env", "myenv.yml", "--output", "oci:newer", "--no-gate")
        assert newer["digest"] != first["digest"]
    # The packages are in the cache now: neither environment nor network are needed.
    alone = build(tmp_path, fresh, "--lock", "lock.json", "--no-network", "--output", "oci:alone")
    assert alone["digest"] == first["digest"]
    (tmp_path / "other.yml").write_text("dependencies:\n  - pip:\n    - mine<1.0\n")
    words = ("build", "--script", "score.py", "--lock", "lock.json", "--cache", fresh, "--output", "oci:none")
    refused = run(tmp_path, *words, "--env", "other.yml", code=2)[1]
    assert "the lock does not fit: it has mine 1.0, and the environment wants mine<1.0" in refused
    assert not (tmp_path / "none").exists()
