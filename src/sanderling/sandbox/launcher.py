"""Set limits, set the stage as root, give root up for good, then become bubblewrap.

A program of its own (`python -I -S launcher.py`), used when we are root, or when there
are limits to set. As root:

1. enter a private mount namespace, so that nothing is left in the host's;
2. bind what the sandbox needs below a fresh tmpfs. The folders above it (a data folder
   of mode 0700, a virtual environment in root's home) need not be open to the module's user;
3. become the module's unprivileged user, so that the sandbox never runs as the host's uid 0,
   which owns abstract sockets and much of /proc even without capabilities;
4. execute bubblewrap, which stays our parent's direct child: --die-with-parent holds.

Standard library only, no import of ours: it runs isolated. The first argument is JSON:
`{"uid": n, "gid": n, "stage": folder, "binds": [[source, name], ...], "limits": [[resource,
bound], ...], "argv": [...], "environ": {...}}`; the environment is bubblewrap's own, not the
module's. A stage of null leaves all but the limits as it is.
"""

import ctypes
import json
import os
import resource
import stat
import sys

CLONE_NEWNS = 0x00020000
MS_REC, MS_BIND, MS_PRIVATE, MS_NOSUID = 0x4000, 0x1000, 0x40000, 0x2


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [value.encode() if value is not None else None for value in (source, target, kind)]
    result = libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), data.encode() if data else None)
    _check(result, f"cannot mount {source} on {target}")


def _set_stage(stage: str, binds: list[list[str]]) -> None:
    libc = _libc()
    _check(libc.unshare(CLONE_NEWNS), "cannot make a mount namespace")
    _mount(libc, "none", "/", None, MS_REC | MS_PRIVATE)
    # Opened before the tmpfs hides whatever lies below the stage's folder.
    held = [(os.open(source, os.O_PATH), name) for source, name in binds]
    _mount(libc, "tmpfs", stage, "tmpfs", MS_NOSUID, "mode=0755")
    for fd, name in held:
        target = f"{stage}/{name}"
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.mkdir(target, 0o755)  # noqa: PTH102  (paths by file descriptor and text alone in this file)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        _mount(libc, f"/proc/self/fd/{fd}", target, None, MS_BIND | MS_REC)
        os.close(fd)


def main() -> None:
    order = json.loads(sys.argv[1])
    if order["stage"] is not None:
        _set_stage(order["stage"], order["binds"])
        os.setgroups([])
        os.setresgid(order["gid"], order["gid"], order["gid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    os.chdir("/")
    for what, bound in order["limits"]:
        hard = resource.getrlimit(what)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(what, (bound, bound))
    os.execve(order["argv"][0], order["argv"], order["environ"])


if __name__ == "__main__":
    main()
