import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

SCRIPT = "import json\ndef init(): pass\ndef run(raw_data): return json.loads(raw_data)['n'] + 1\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_script_scores_right_here(tmp_path: Path) -> None:
    pytest.importorskip("sanderling_scoring.command")
    (tmp_path / "score.py").write_text(SCRIPT)
    port = free_port()
    command = [sys.executable, "-P", "-m", "sanderling.cli", "serve", "score.py", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert monotonic() < deadline, (tmp_path / "log").read_text()
                sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/score", data=b'{"n": 41}', timeout=5) as answer:
            assert answer.read() == b"42"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        (["nix.py"], "nix.py is not there", 2),
        (["data.txt"], "data.txt is not a Python file", 2),
        (["broken.py"], "broken.py, line 2: this is no Python", 2),
        (["norun.py"], "norun.py has no function 'run'; add 'def run(raw_data): ...'", 2),
        (["score.py", "--model-dir", "nix"], "the model folder nix is not there", 2),
    ],
)
def test_bad_input_is_named(up: Any, tmp_path: Path, arguments: list[str], text: str, code: int) -> None:
    (tmp_path / "score.py").write_text(SCRIPT)
    (tmp_path / "data.txt").write_text("")
    (tmp_path / "broken.py").write_text("def init(): pass\ndef run(:\n")
    (tmp_path / "norun.py").write_text("def init(): pass\n")
    done = up.cli("serve", *arguments, cwd=tmp_path)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_a_port_in_use_is_named(up: Any, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(SCRIPT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = up.cli("serve", "score.py", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "score.py"]
