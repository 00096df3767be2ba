"""Finds a module's process below its sandbox, from /proc.

bwrap (watches) ── init of the namespace (also bwrap) ── the module
"""

import contextlib
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


def _parent(folder: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # proc(5), /proc/pid/stat: the name in parentheses may hold anything, so read after the last one.
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return None
