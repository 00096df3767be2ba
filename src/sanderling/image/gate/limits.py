"""What a script may use while it is tried, and how the kernel is told.

Memory is watched as a whole, by `box`; the bound for one process's addresses is a
second wall, and wider, because libraries reserve far more than they use.
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from sanderling.errors import Invalid

GIB = 1 << 30
_SPARE_ADDRESSES = 4 * GIB
MIN_MEMORY_BYTES = 64 << 20


def machine_memory_bytes() -> int:
    """Return how much memory this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for all processes of a trial together. memory_bytes: None takes three quarters of the machine's.

    processes counts threads too. temporary_bytes is what /tmp takes, in memory.
    """

    time_s: float = 300.0
    memory_bytes: int | None = None
    processes: int = 512
    temporary_bytes: int = GIB

    def __post_init__(self) -> None:
        if not 0 < self.time_s <= 24 * 3600:
            raise Invalid(f"a time limit of {self.time_s:g} s for the gate: give seconds, up to a day")
        if self.memory_bytes is not None and self.memory_bytes < MIN_MEMORY_BYTES:
            raise Invalid(f"{self.memory_bytes} bytes of memory for the gate are too few; give at least 64 MB")

    @property
    def all_memory_bytes(self) -> int:
        """How much memory all processes may have."""
        return machine_memory_bytes() * 3 // 4 if self.memory_bytes is None else self.memory_bytes

    @property
    def memory_folder_bytes(self) -> dict[str, int]:
        """How much the folders in memory take."""
        return {
            "/tmp": min(self.temporary_bytes, self.all_memory_bytes),
            "/dev/shm": min(self.temporary_bytes, self.all_memory_bytes),
            "/run": 16 << 20,
        }

    def for_each(self, uid: int) -> list[tuple[int, int]]:
        """Return what the kernel bounds for each process of the user *uid* of the host: resources and their bounds."""
        return [
            (resource.RLIMIT_AS, 2 * self.all_memory_bytes + _SPARE_ADDRESSES),
            (resource.RLIMIT_CPU, int(self.time_s * (os.cpu_count() or 1)) + 5),
            # The user's processes outside of the sandbox are counted too, at least while it is made.
            (resource.RLIMIT_NPROC, self.processes + _threads_of(uid)),
            (resource.RLIMIT_CORE, 0),
        ]


def _threads_of(uid: int) -> int:
    found = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if folder.stat().st_uid == uid:
                    found += sum(1 for _ in (folder / "task").iterdir())
            except OSError:
                continue
    return found


def memory_of(pid: int, enough: int) -> int:
    """Return the memory of *pid* and its descendants in bytes: what would be free if they ended.

    The exact figure is asked for only when the quick one, which counts pages twice
    that processes share after a fork, is more than *enough*.
    """
    tree = _descendants(pid)
    quick = sum(map(_own_bytes, tree))
    return quick if quick <= enough else sum(map(_share_bytes, tree))


def _descendants(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        here = todo.pop()
        found.append(here)
        try:
            for task in Path(f"/proc/{here}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def _own_bytes(pid: int) -> int:
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * resource.getpagesize()


def _share_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return _own_bytes(pid)
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(("Pss_Anon", "Pss_Shmem")))
