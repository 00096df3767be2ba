"""The registry behind a true HTTP server with the bounds that ours has: in a thread, or as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from sqlalchemy import Engine
from tests.registry.world import basic, make_engine, seal, unseal

from sanderling.blobs import BlobStore, FileBlobs
from sanderling.registry import Registry, RegistryCredentials
from sanderling.server.direct_http import DirectHttp, Lanes


@contextmanager
def served(
    folder: Path, blobs: BlobStore | None = None, engine: Engine | None = None
) -> Iterator[tuple[str, RegistryCredentials]]:
    """Serve what *folder* holds on a free port of the loopback; yield address and credentials.

    Layers and rows are in the folder, unless a store or an engine is given.
    """
    own = engine or make_engine(folder / "sanderling.db")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        credentials = RegistryCredentials(own, seal, unseal)
        app = Registry(own, blobs or FileBlobs(folder / "blobs"), credentials, address).app()
        lanes = Lanes()
        config = uvicorn.Config(
            app,
            http=partial(DirectHttp, lanes=lanes),  # type: ignore[arg-type]
            ws="none",
            log_level="warning",
            lifespan="off",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield address, credentials
        finally:
            server.should_exit = True
            thread.join(20)
            lanes.close()
            if engine is None:
                own.dispose()


@dataclass(frozen=True)
class Served:
    """A registry in a process of its own, and the admin user of `demo`."""

    folder: Path
    pid: int
    host: str
    port: int
    headers: dict[str, str]
    log: Path

    def rss_bytes(self) -> int:
        """Return the memory that the process holds."""
        words = Path(f"/proc/{self.pid}/status").read_text().split("VmRSS:")[1].split()
        return int(words[0]) * 1024

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 (a Path for each of them is slow)

    def uploads(self) -> int:
        return len(list((self.folder / "blobs" / "uploads").glob("*")))


@contextmanager
def served_apart(folder: Path) -> Iterator[Served]:
    """Serve what *folder* holds in a process of its own, so that what it takes can be measured."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tests.registry.serving", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
    try:
        assert process.stdout is not None
        address, password = process.stdout.readline().split()
        host, port = address.split(":")
        yield Served(folder, process.pid, host, int(port), basic("demo", password), log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with served(Path(sys.argv[1])) as (address, credentials):
        print(address, credentials.set_admin_enabled("demo", True).passwords[0], flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
