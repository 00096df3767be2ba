import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep
from typing import Any


def test_a_stream_without_messages_is_an_empty_document(up: Any, project: Path) -> None:
    done = up.cli("messages", "--device", "nobody", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_ctrl_c_ends_following_with_exit_code_0(up: Any, project: Path) -> None:
    command = [sys.executable, "-P", "-m", "sanderling.cli", "messages", "--follow"]
    env = {**os.environ, "SANDERLING_CONFIG_DIR": str(up.config)}
    process = subprocess.Popen(command, cwd=project, env=env, stderr=subprocess.PIPE, text=True)
    try:
        sleep(2.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()
