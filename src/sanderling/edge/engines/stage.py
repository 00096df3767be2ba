"""Gets a container's folder ready to be run: what to bind, what to pass, whom to become."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sanderling.edge.disk import private_folder
from sanderling.edge.engines import command as module_command
from sanderling.edge.engines.create_options import CreateOptions
from sanderling.errors import Invalid, NotFound
from sanderling.oci import ImageConfig
from sanderling.sandbox.bubblewrap import File, Mount, arguments
from sanderling.sandbox.launch import Launch, Prepared
from sanderling.sandbox.rootfs import ensure_mount_point

MARK = "SANDERLING_DATA"  # in the environment of our sandboxes: which data folder they belong to
_SANDBOX_FOLDERS = ("/proc", "/dev", "/tmp", "/run")


class Stage:
    """Prepares starts with the program *bwrap* for the runtime of the folder *data*; *hosts* go to /etc/hosts.

    `environ` is bubblewrap's own environment.
    """

    def __init__(self, bwrap: Path, data: Path, hosts: str) -> None:
        self._launch = Launch(bwrap, {MARK: str(data)})
        self._volumes = private_folder(data / "volumes")
        self.environ = self._launch.environ
        self._hosts = hosts

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
        environment = module_command.port_variables(name, config, options, _free_port()) | record["environment"]
        command = module_command.command_of(name, config, options, environment, root)
        outside = self._launch.outside(command.user)
        for folder in _SANDBOX_FOLDERS:
            ensure_mount_point(root, folder, folder=True)
        binds = [(record["workload"], "/run/iotedge", True)]
        binds += [(self._source(b.source, b.is_volume, outside), b.target, b.is_read_only) for b in options.binds]
        staged, mounts = self._mounts(name, root, binds)
        prepared = Prepared()
        try:
            files = [
                File(prepared.hold(self._hosts_file()), _file_point(root, "/etc/hosts")),
                File(prepared.hold(_host_file("/etc/resolv.conf")), _file_point(root, "/etc/resolv.conf")),
            ]
            args = arguments(self._launch.reachable(str(root), "root"), command, mounts, files)
            args_fd = prepared.hold("\0".join(args).encode() + b"\0")
            rest = ["--args", str(args_fd), "--", *command.argv]
            prepared.argv = self._launch.argv(rest, [(str(root), "root"), *staged], outside)
        except BaseException:
            prepared.close()
            raise
        return prepared

    def probe(self) -> list[str]:
        """Return a command that succeeds where modules can run: a sandbox of the host's root that does nothing."""
        return self._launch.probe()

    def _mounts(
        self, name: str, root: Path, binds: Sequence[tuple[str, str, bool]]
    ) -> tuple[list[tuple[str, str]], list[Mount]]:
        staged: list[tuple[str, str]] = []
        mounts: list[Mount] = []
        for number, (source, target, is_read_only) in enumerate(binds):
            if not Path(source).exists():
                raise Invalid(f"module {name!r}: {source!r}, which createOptions bind, is not on this device")
            if target.startswith(("/run/", "/tmp/", "/dev/shm/")):
                inside = target.strip("/")  # below a folder in memory: bubblewrap makes the mount point
            else:
                inside = ensure_mount_point(root, target, folder=Path(source).is_dir())
            staged.append((source, f"bind{number}"))
            mounts.append(Mount(self._launch.reachable(source, f"bind{number}"), inside, is_read_only))
        return staged, mounts

    def _source(self, source: str, is_volume: bool, outside: tuple[int, int]) -> str:
        if not is_volume:
            return source
        folder = self._volumes / source
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            if self._launch.is_root:
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
