"""The same inputs on another day and another host: one digest."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.image.unpack import read_image

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]

ARGUMENTS = (
    *("--script", "score.py", "--requirements", "requirements.txt", "--file", "lookup", "--file", "run.sh"),
    *("--model", "model.pkl", "--model", "digits:3=net", "--schema", "service_schema.json"),
    *("--tag", "team=edge", "--tag", "line=4", "--description", "Größen", "--name", "demo/digits:7"),
    *("--platform", "linux/amd64", "--no-gate", "--output", "oci:out", "--json"),
)


@dataclass(frozen=True)
class Host:
    """A machine as far as a build can see one: *variables*, *umask*, *mtime* of its files, number of processors."""

    folder: Path
    variables: dict[str, str]
    umask: int
    mtime: int
    processors: int

    def take(self, inputs: Path) -> None:
        """Copy *inputs* here, made in another order where this machine's *umask* is another, at another time."""
        self.folder.mkdir()
        paths = sorted(inputs.rglob("*"), reverse=self.umask == 0)
        for path in paths:
            target = self.folder / path.relative_to(inputs)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            is_program = bool(path.stat().st_mode & 0o100)
            target.chmod((0o777 if is_program else 0o666) & ~self.umask)
        for path in self.folder.rglob("*"):
            os.utime(path, (self.mtime, self.mtime))

    def build(self, cache: Path) -> dict[str, Any]:
        chosen = ",".join(map(str, sorted(os.sched_getaffinity(0))[: self.processors]))
        home = self.folder / "home"
        index = (self.folder / "index" / "simple").as_uri()
        done = subprocess.run(
            [
                *("taskset", "-c", chosen, sys.executable, "-m", "sanderling.cli"),
                *("image", "build", *ARGUMENTS, "--cache", str(cache)),
            ],
            cwd=self.folder,
            env={
                **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
                "HOME": str(home),
                "SANDERLING_CONFIG_DIR": str(home),
                "UV_DEFAULT_INDEX": index,
                **self.variables,
            },
            umask=self.umask,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        built: dict[str, Any] = json.loads(done.stdout)
        return built


@pytest.fixture
def inputs(tmp_path: Path, score: Path, model: Path, make_index: Callable[..., str]) -> Path:
    folder = tmp_path / "inputs"
    for path in ("net/weights", "lookup/deep", "lookup/empty"):
        (folder / path).mkdir(parents=True)
    score.rename(folder / "score.py")
    model.rename(folder / "model.pkl")
    (folder / "net" / "weights" / "b.bin").write_bytes(b"b" * 70_000)
    (folder / "net" / "weights" / "a.bin").write_bytes(b"a" * 70_000)
    (folder / "lookup" / "größe.csv").write_text("ä,b\n", "utf-8")
    (folder / "lookup" / "deep" / "table.py").write_text("assert True, 'is left out with -O'\n")
    (folder / "service_schema.json").write_text('{"input": {}, "output": {}}')
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    make_index(("alpha", "1.0", ["beta"]), ("beta", "2.0", []))
    (tmp_path / "index").rename(folder / "index")
    (folder / "requirements.txt").write_text("alpha\n")
    return folder


def test_another_host_in_another_place_on_another_day_gives_the_same_digest(tmp_path: Path, inputs: Path) -> None:
    # What these change: order of sets, names in messages, local time, bytecode's default form, optimised bytecode.
    one = Host(
        tmp_path / "one",
        {"TZ": "Pacific/Auckland", "LANG": "C.UTF-8", "PYTHONHASHSEED": "1"},
        umask=0o077,
        mtime=946_684_800,
        processors=1,
    )
    other = Host(
        tmp_path / "other" / "folder",
        {
            "TZ": "America/Anchorage",
            "LC_ALL": "C",
            "LANG": "tr_TR.UTF-8",
            "PYTHONHASHSEED": "271828",
            "PYTHONOPTIMIZE": "1",
            "PYTHONPYCACHEPREFIX": str(tmp_path / "pyc"),
            "SOURCE_DATE_EPOCH": "1234567890",
        },
        umask=0,
        mtime=1_700_000_001,
        processors=64,
    )
    (tmp_path / "other").mkdir()
    built = []
    for host in (one, other):
        host.take(inputs)
        cache = host.folder / "cache"
        if built:  # the same choice of packages, each fetched and made into layers anew
            shutil.copytree(one.folder / "cache" / "base", cache / "base")
        built.append(host.build(cache))
    first, second = built
    layers = [{layer["title"]: layer["digest"] for layer in one["layers"]} for one in built]
    assert layers[0] == layers[1]  # says which layer it is
    assert second["digest"] == first["digest"]
    assert (one.folder / "out" / "index.json").read_bytes() == (other.folder / "out" / "index.json").read_bytes()
    assert str(tmp_path) not in json.dumps(read_image(other.folder / "out"))
