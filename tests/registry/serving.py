"""The registry behind a true HTTP server, in a thread."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from tests.registry.world import make_engine, seal, unseal

from sanderling.blobs import BlobStore, FileBlobs
from sanderling.registry import Registry, RegistryCredentials


@contextmanager
def served(folder: Path, blobs: BlobStore | None = None) -> Iterator[tuple[str, RegistryCredentials]]:
    """Serve what *folder* holds on a free port of the loopback; yield address and credentials.

    Layers are in the folder too, unless a store is given.
    """
    engine = make_engine(folder / "sanderling.db")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        credentials = RegistryCredentials(engine, seal, unseal)
        app = Registry(engine, blobs or FileBlobs(folder / "blobs"), credentials, address).app()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5))
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
            engine.dispose()
