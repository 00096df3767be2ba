import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any


def test_a_stream_without_messages_is_an_empty_document(up: Any, project: Path) -> None:
    done = up.cli("messages", "--device", "nobody", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert "no messages" in up.cli("messages", "--device", "nobody", cwd=project).stdout


def sockets_of(pid: int) -> list[Path]:
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if str(fd.readlink()).startswith("socket:"):
                found.append(fd)
    return found


def test_ctrl_c_ends_following_with_exit_code_0(up: Any, project: Path) -> None:
    command = [sys.executable, "-P", "-m", "sanderling.cli", "messages", "--follow"]
    env = {**os.environ, "SANDERLING_CONFIG_DIR": str(up.config)}
    process = subprocess.Popen(command, cwd=project, env=env, stderr=subprocess.PIPE, text=True)
    try:
        # It asks the server over a socket once it follows.
        deadline = monotonic() + 20
        while not sockets_of(process.pid):
            assert monotonic() < deadline
            sleep(0.05)
        sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()
