"""What the edge runtime keeps on disk, and the lock on it.

    DIR/                           0700
      lock                         flock while a runtime works here; holds its process id
      gateway-ca.pem               the edge CA: what modules and leaf processes trust
      tls/                         ca.key, server.pem, server.key
      identities.json              this device's identities and keys (0600)
      discovery.json               the hub's last answer at /.well-known/sanderling
      desired/{agent,hub}.json     the last good desired properties
      tags.json                    image reference -> digest of its manifest
      content/sha256/<hex>         blobs as pulled, verified
      content/partial/<hex>        a pull that was cut; resumed by range
      layers/<diffID hex>/         one layer unpacked: `fs/` and `layer.json`
      rootfs/<config hex>/         one image: its layers merged by hard links
      containers/<module>/         bubblewrap engine: container.json, log, log.1
      volumes/<name>/              bubblewrap engine: named volumes
      workload/<module>/           workload.sock, one folder a module
      hub.db                       edge hub: queues, subscriptions, twins (SQLite, WAL)

Everything may be killed at any line: files are whole or not there, folders are
made aside and renamed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sanderling.edge.disk import private_folder
from sanderling.errors import Conflict, Invalid


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the files below one data folder. Making it makes the folder."""

    root: Path

    def __post_init__(self) -> None:
        private_folder(self.root)
        self._close_to_others()

    def _close_to_others(self) -> None:
        """Make sure that nobody else enters: sockets below sign for modules, whoever connects to them.

        Raises `Invalid` for a folder that others may enter and that is not ours to close.
        """
        if self.root.stat().st_mode & 0o077 == 0:
            return
        names = {path.name for path in self.root.iterdir()} - {"lost+found"}
        if names and "lock" not in names:
            raise Invalid(f"the folder {self.root} holds other things: choose a new one with --data")
        try:
            self.root.chmod(0o700)
        except OSError as e:
            raise Invalid(
                f"the folder {self.root} cannot be closed to other users ({e.strerror}): choose another with --data"
            ) from e

    def folder(self, *names: str) -> Path:
        """Return the folder below the root, made if need be."""
        folder = self.root
        for name in names:
            folder = private_folder(folder / name)
        return folder

    @property
    def gateway_ca(self) -> Path:
        """The edge CA's certificate."""
        return self.root / "gateway-ca.pem"

    @property
    def identities(self) -> Path:
        """Identities and keys of this device."""
        return self.root / "identities.json"

    @property
    def discovery(self) -> Path:
        """The hub's last description of itself."""
        return self.root / "discovery.json"

    @property
    def hub_database(self) -> Path:
        """The edge hub's SQLite file."""
        return self.root / "hub.db"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this folder; raise `Conflict` when another runtime does."""
        path = self.root / "lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
                raise Conflict(
                    f"another edge runtime (process {owner}) works in {self.root}: "
                    "stop it, or give another folder with --data"
                ) from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            yield
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)
