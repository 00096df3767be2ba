"""Says how bubblewrap is called: pure, from values to arguments.

The box: read-only root, /tmp, /run and /dev/shm in memory, a minimal read-only /dev, a
/proc of its own, new process, IPC and host-name namespaces, no capability, a
user namespace with the image's user and nobody else. The network is the host's,
or none.

Variables go through `--args FD`, not the command line: they may hold secrets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sanderling.errors import Invalid
from sanderling.sandbox.rootfs import resolve_inside

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY_FOLDERS = ("/tmp", "/run", "/dev/shm")


@dataclass(frozen=True, slots=True)
class User:
    """Who the process is inside the sandbox."""

    uid: int
    gid: int
    home: str = "/"


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind of a path that bubblewrap can reach, onto a resolved path in the root."""

    source: str
    target: str
    is_read_only: bool


@dataclass(frozen=True, slots=True)
class File:
    """Content, by file descriptor, that is shown read-only at a resolved path in the root."""

    fd: int
    target: str


@dataclass(frozen=True, slots=True)
class Command:
    """What runs in the sandbox."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_dir: str
    user: User
    hostname: str


@dataclass(frozen=True, slots=True)
class Walls:
    """What is shared with the host, and how much the folders in memory take: bytes by folder, else half its memory."""

    has_network: bool = True
    memory_folder_bytes: Mapping[str, int] = field(default_factory=dict)


def arguments(
    root: str, command: Command, mounts: Sequence[Mount], files: Sequence[File], walls: Walls = Walls()
) -> list[str]:
    """Return bubblewrap's options, without the program that runs inside."""
    options = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    options += ["--unshare-cgroup-try", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    if not walls.has_network:
        options.append("--unshare-net")
    options += ["--uid", str(command.user.uid), "--gid", str(command.user.gid), "--hostname", command.hostname]
    options += ["--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
    for folder in MEMORY_FOLDERS:
        size = walls.memory_folder_bytes.get(folder)
        options += ["--perms", "1777", *(("--size", str(size)) if size is not None else ()), "--tmpfs", folder]
    for file in files:
        options += ["--perms", "0444", "--ro-bind-data", str(file.fd), f"/{file.target}"]
    for mount in mounts:
        options += ["--ro-bind" if mount.is_read_only else "--bind", mount.source, f"/{mount.target}"]
    options += ["--remount-ro", "/dev", "--clearenv"]
    for name, value in command.environment.items():
        options += ["--setenv", name, value]
    return [*options, "--chdir", command.working_dir]


def find_user(text: str, root: Path) -> User:
    """Return who `user[:group]` of an image config is, names looked up in *root*; raise `Invalid`."""
    name, _, group = text.partition(":")
    rows = _rows(root, "etc/passwd")
    if not name:
        uid, own_gid, home = 0, 0, "/root"
    else:
        row = next((r for r in rows if len(r) >= 6 and name in (r[0], r[2])), None)
        if row is not None:
            uid, own_gid, home = _number(row[2], text), _number(row[3], text), row[5] or "/"
        else:
            uid, own_gid, home = _number(name, text), 0, "/"
    gid = own_gid
    if group:
        row = next((r for r in _rows(root, "etc/group") if len(r) >= 3 and group == r[0]), None)
        gid = _number(row[2] if row else group, text)
    return User(uid, gid, home)


def _number(text: str, user: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32 - 1:
        raise Invalid(f"the image's user {user[:100]!r} is neither a number nor known in its /etc/passwd")
    return int(text)


def _rows(root: Path, name: str) -> list[list[str]]:
    path = root / resolve_inside(root, name)
    try:
        with path.open("rb") as file:
            text = file.read(1024 * 1024).decode("utf-8", "replace")
    except OSError:
        return []
    return [line.split(":") for line in text.splitlines()]
