"""The benchmark of images goes on running; what it measures is nobody's business here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "image.py"
NEEDS_PEER = "docker-registry is not installed (Debian: apt-get install --no-install-recommends docker-registry)"


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("docker-registry") is None, reason=NEEDS_PEER)
def test_our_own_builds_are_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--only", "sanderling", "--repeat", "1"]
    command += ["--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=570, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["failed"] == {}
    assert {stage: len(values) for stage, values in figures["seconds"]["sanderling"].items()} == {
        "cold": 1,
        "model changed": 1,
        "unchanged": 1,
    }
    assert figures["bytes"]["sanderling"] < 80_000_000


def test_an_unknown_builder_is_wrong_usage() -> None:
    command = [sys.executable, str(SCRIPT), "--only", "sanderling;nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
