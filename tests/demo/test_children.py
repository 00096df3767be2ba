import os
import signal
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from sanderling.demo.children import Child, ChildEnded, Children, tail_of, wait_until
from sanderling.demo.interruption import Interruption
from sanderling.errors import Unavailable


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone(pid: int) -> bool:
    deadline = monotonic() + 5
    while is_alive(pid) and monotonic() < deadline:
        sleep(0.02)
    return not is_alive(pid)


def test_a_child_that_ends_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Interruption() as interruption, Children(interruption, tmp_path) as children:
        child = children.start("broken", ["modell"])
        child.process.wait(20)
        with pytest.raises(ChildEnded, match="broken ended with exit code 2") as caught:
            children.check()
        assert any("No such command" in line for line in caught.value.tail)
        assert caught.value.log.stat().st_mode & 0o777 == 0o600


def test_children_and_what_they_started_are_ended_whatever_happens(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import subprocess, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    process.stdout.close()
    import sanderling.demo.children as module

    before, module.GRACE_S = module.GRACE_S, 0.5
    try:
        Child("stubborn", process, tmp_path / "log").stop()
    finally:
        module.GRACE_S = before
    assert gone(grandchild)
    assert process.returncode == -signal.SIGKILL


def test_ctrl_c_ends_the_children(tmp_path: Path) -> None:
    pids: list[int] = []

    def story() -> None:
        with Interruption() as interruption, Children(interruption, tmp_path) as children:
            pids.append(children.start("waits", ["edge", "run"], given="not a connection string").process.pid)
            os.kill(os.getpid(), signal.SIGINT)
            sleep(10)

    with pytest.raises(KeyboardInterrupt):
        story()
    assert gone(pids[0])


def test_waiting_ends_when_the_condition_holds_or_time_is_up(tmp_path: Path) -> None:
    with Interruption() as interruption, Children(interruption, tmp_path) as children:
        wait_until("now", lambda: True, children, 1)
        with pytest.raises(Unavailable, match="the moon: not after 0 s"):
            wait_until("the moon", lambda: False, children, 0)


def test_a_tail_is_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(100_000)))
    assert tail_of(log)[-1] == "line 99999"
    assert len(tail_of(log)) == 15
    assert tail_of(tmp_path / "nix") == []
