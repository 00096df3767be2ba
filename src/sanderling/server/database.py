"""The one SQL engine that all stages share, and the lock that keeps a data folder to one server.

- SQLite in WAL mode with `synchronous=FULL`: what was answered is on the disk.
- `engine.begin()` is for changes and takes the write lock at once (BEGIN IMMEDIATE),
  so a transaction that reads before it writes never fails half-way with "locked".
  `engine.connect()` is for reading and never waits for a writer.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from sanderling.durable import ensure_private_folder
from sanderling.errors import Conflict, Invalid

BUSY_TIMEOUT_S = 15
CONNECTIONS = 16

LOCK = "lock"
DATABASE = "sanderling.db"
REGISTRY_DATABASE = "registry.db"  # of a registry alone
OF_A_MEDIUM = {"lost+found"}


class DataFolderInUse(Conflict):
    """Another server holds the data folder."""

    def __init__(self, folder: Path, pid: int | None, option: str = "--data") -> None:
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"the data folder {folder} is in use by {who}: "
            f"stop that server first, or choose another folder with {option}"
        )
        self.folder, self.pid = folder, pid


class SqliteEngine(Engine):
    """An Engine whose `begin()` takes SQLite's write lock when the transaction starts."""

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Yield a connection in one transaction for a change; commit at the end, roll back on an error."""
        with self.connect() as connection:
            writer = connection.execution_options(sanderling_writes=True)
            with writer.begin():
                yield writer


def open_database(file: Path) -> Engine:
    """Open, or make, the SQLite database *file*, readable by its owner alone."""
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    os.fchmod(descriptor, 0o600)
    os.close(descriptor)
    made = create_engine(
        f"sqlite:///{file}",
        connect_args={"timeout": BUSY_TIMEOUT_S},
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        hide_parameters=True,  # an error that is logged must not show what was stored
    )
    engine = SqliteEngine(made.pool, made.dialect, made.url, hide_parameters=True)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(raw: Any, _record: object) -> None:
    raw.isolation_level = None  # transactions are begun by _on_begin, not guessed by the driver
    cursor = raw.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_S * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("sanderling_writes", False)
    # Past SQLAlchemy, whose own way takes longer than most of our reads.
    raw = connection.connection.driver_connection
    assert raw is not None
    raw.execute("BEGIN IMMEDIATE" if writes else "BEGIN").close()


class DataFolder:
    """A data folder that is held by this process until `release` (or its death).

    *database* tells one kind of server from another; *option* is named in messages.
    """

    def __init__(self, folder: Path, database: str = DATABASE, option: str = "--data") -> None:
        self.folder, self.option = folder, option
        self._database = database
        self._descriptor: int | None = None

    @property
    def lock_file(self) -> Path:
        return self.folder / LOCK

    def acquire(self) -> None:
        """Make the folder when it is missing and hold it; DataFolderInUse when another server does.

        Raises Invalid for a folder that is not ours: it would be closed to all others, and mixed with our files.
        """
        if self._descriptor is not None:
            return
        if self.folder.is_dir():
            found = {path.name for path in self.folder.iterdir()} - OF_A_MEDIUM
            others = {DATABASE, REGISTRY_DATABASE} - {self._database}
            if found and (found & others or not found & {LOCK, self._database}):
                raise Invalid(f"the folder {self.folder} holds other things: choose a new one with {self.option}")
        ensure_private_folder(self.folder)
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).strip()
            os.close(descriptor)
            pid = int(holder) if holder.isdigit() else None
            raise DataFolderInUse(self.folder, pid, self.option) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the folder go. Does nothing when it is not held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
