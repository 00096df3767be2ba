"""One run of the demo for all journeys: a cold build takes most of their time."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SANDERLING = Path(sys.executable).with_name("sanderling")


@dataclass(frozen=True)
class Told:
    """A finished run of the demo: what it printed, and the folder that it left."""

    data: Path
    code: int
    output: str

    @property
    def last_line(self) -> str:
        return self.output.strip().splitlines()[-1]


def run_demo(data: Path, **more: str) -> Told:
    """Run it in *data*; *more* are environment variables."""
    env = {**os.environ, "SANDERLING_CONFIG_DIR": str(data.parent / "config"), "COLUMNS": "100", **more}
    ended = subprocess.run(
        [SANDERLING, "demo", "--check", "--data", data],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        timeout=500,
    )
    return Told(data, ended.returncode, ended.stdout.decode())


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The first run, in an empty folder."""
    return run_demo(tmp_path_factory.mktemp("journey") / "demo")
