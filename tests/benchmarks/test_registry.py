"""The benchmark goes on running; what it measures is nobody's business here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "registry.py"
NEEDS_PEER = "docker-registry is not installed (Debian: apt-get install --no-install-recommends docker-registry)"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("docker-registry") is None, reason=NEEDS_PEER)
def test_the_registry_is_measured_beside_its_peer(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, str(SCRIPT), "--size", "2", "--repeat", "1", "--turns", "1"]
    command += ["--json", str(tmp_path / "figures.json"), "--folder", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["seconds"]) == 11
    for name, by_server in figures["seconds"].items():
        assert set(by_server) == {"docker-registry", "sanderling"}
        assert name.split(",")[0] in done.stdout
    assert "SHA-NI" in done.stdout
    assert list(work.iterdir()) == []


def test_an_unknown_part_is_wrong_usage() -> None:
    command = [sys.executable, str(SCRIPT), "--only", "push,nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
