"""A PostgreSQL of the tests' own: a cluster in a temporary folder, reached by a Unix socket, stopped by its pid."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import OperationalError


def find_programs() -> Path | None:
    """Return the folder of `initdb` and `postgres`, the latest version first; None when it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    return None if program is None else Path(program).resolve().parent


@contextmanager
def running(programs: Path) -> Iterator[URL]:
    """Run a new cluster; yield the address of its one database. Nothing of it outlives this."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
    account: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = folder / "data"
    try:
        initialise = ["-D", data, "-U", "tests", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run([programs / "initdb", *initialise], check=True, cwd=folder, stdout=subprocess.DEVNULL, **account)
        # What a power cut would lose does not matter here.
        quick = [f"-c{name}=off" for name in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")]
        log = (folder / "log").open("wb")
        with (
            log,
            subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", folder, "-h", "", *quick], cwd=folder, stderr=log, **account
            ) as process,
        ):
            try:
                url = URL.create("postgresql+psycopg", "tests", database="postgres", query={"host": str(folder)})
                _wait(url)
                yield url
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: URL) -> None:
    engine = create_engine(url)
    deadline = time.monotonic() + 60
    while True:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def clear(engine: Engine) -> None:
    """Empty every table."""
    with engine.begin() as connection:
        names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
        tables = ", ".join(f'"{name}"' for name in names)
        if tables:
            connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
