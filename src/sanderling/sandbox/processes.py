"""Finds and ends the processes of a sandbox, from /proc.

    bwrap (watches) ── init of the namespace (also bwrap) ── the module

While bwrap sets a sandbox up there is a moment in which its first process does
not die with it yet. So a sandbox is ended from below, and a runtime that was
killed in that moment leaves processes that the next one finds by their mark.
"""

import contextlib
import os
import signal
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the children of *pid*; empty when it is gone."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _parent(folder) == pid:
            found.append(int(folder.name))
    return sorted(found)


def find_module_process(bwrap_pid: int) -> int | None:
    """Return the module's process id on the host, or None when it has not been started yet or has ended."""
    for init in children(bwrap_pid):
        for module in children(init):
            return module
    return None


def kill_sandbox(bwrap_pid: int) -> None:
    """Kill all of a sandbox, at whatever point of its life it is."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(bwrap_pid, signal.SIGSTOP)  # it cannot make another process behind our back
        for init in children(bwrap_pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)
        os.kill(bwrap_pid, signal.SIGKILL)


def kill_marked(name: str, value: str) -> int:
    """Kill all processes that were started with the variable *name* at *value*; return how many that were.

    Call it when whoever starts them has ended: it looks once at each process.
    """
    mark = f"{name}={value}".encode()
    killed = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed += 1
    return killed


def _parent(folder: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # proc(5), /proc/pid/stat: the name in parentheses may hold anything, so read after the last one.
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return None
