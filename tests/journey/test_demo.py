"""The main job: from model.pkl to predictions on a device, by the command that a newcomer runs first."""

import fcntl
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.journey.conftest import SANDERLING, Told, run_demo

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]


def left_running(data: Path) -> list[str]:
    """Command lines of processes that know the folder, by their arguments or open directories."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = str((process / "cwd").readlink())
        except OSError:
            continue
        if int(process.name) != os.getpid() and (str(data) in line or where.startswith(str(data))):
            found.append(line)
    return found


def assert_nothing_left(data: Path) -> None:
    assert left_running(data) == []
    assert str(data) not in Path("/proc/mounts").read_text()
    for name in ("", "device/lock", "server/lock"):
        path = data / name
        if path.exists():
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(handle)


def test_every_prediction_on_the_device_is_the_models_own_and_no_message_is_lost(told: Told) -> None:
    assert told.code == 0, told.output[-6000:]
    assert told.last_line.startswith("ok")
    for step in range(1, 10):
        assert f"--> {step}/9" in told.output
    assert_nothing_left(told.data)


def test_secrets_are_in_no_log(told: Told) -> None:
    passwords = re.findall(r"password2?\s+(\S{20,})", told.output)
    assert len(passwords) == 2
    owner = (told.data / "server" / "secrets" / "owner-token").read_text().strip()
    for log in [*told.data.glob("logs/*"), *told.data.glob("server/builds/**/*"), *told.data.glob("device/**/log*")]:
        if log.is_file():
            text = log.read_bytes()
            for secret in (*passwords, owner, "SharedAccessKey="):
                assert secret.encode() not in text, f"{log} holds a secret"


def test_a_second_run_starts_from_what_is_there(told: Told) -> None:
    again = run_demo(told.data)
    assert again.code == 0, again.output[-6000:]
    assert again.last_line.startswith("ok")
    assert "model digits:2" in again.output
    assert_nothing_left(told.data)


@pytest.mark.parametrize("step", [1, 4, 6, 7, 8, 9])
def test_ctrl_c_at_any_point_leaves_nothing_behind(told: Told, step: int) -> None:
    env = {**os.environ, "SANDERLING_CONFIG_DIR": str(told.data.parent / "config")}
    demo = subprocess.Popen(
        [SANDERLING, "demo", "--check", "--data", told.data], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    )
    try:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line.decode())
            if line.startswith(f"--> {step}/9".encode()):
                break
        else:
            pytest.fail(f"it ended before step {step}:\n{''.join(said)}")
        time.sleep(0.3)
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
        assert demo.returncode != 0
        assert b"Traceback" not in rest
    finally:
        demo.kill()
        demo.wait()
        if demo.stdout is not None:
            demo.stdout.close()
    assert_nothing_left(told.data)
