"""A real server process with its portal, and browsers' sessions on it."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from sanderling import portal
from sanderling.sdk import Model, Workspace
from sanderling.sdk.client import Client

START_S = 30
FROM_HERE = {"Sec-Fetch-Site": "same-origin"}
HOSTILE = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Site:
    """A server's address, its data folder, and a client with all rights."""

    url: str
    data: Path
    owner: Client

    @property
    def ca(self) -> Path:
        return self.data / "tls" / "ca.pem"

    def new_code(self) -> str:
        answer = self.owner.call("POST", "/api/v1/sign-in-links")
        return str(answer["url"]).partition("#")[2]

    def visitor(self) -> httpx.Client:
        """A browser that has not signed in."""
        context = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(base_url=self.url, verify=context, timeout=30, trust_env=False)


@contextmanager
def running_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the URL and the data folder of a server process."""
    data = folder / "data"
    command = [sys.executable, "-m", "sanderling.server", "--data", str(data), "--host", "127.0.0.1"]
    command += ["--port", "0", "--mqtt-port", "0"]
    with (folder / "stderr").open("w") as stderr:
        env = os.environ | {"SANDERLING_CONFIG_DIR": str(folder / "config")}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (folder / "stderr").read_text()
        yield json.loads(line)["url"], data
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)
        process.stdout.close()


@contextmanager
def running_portal(client_for: Callable[[str], Client], tls: Path) -> Iterator[str]:
    """Yield the URL of a portal that this process serves, with the server's certificate."""
    config = uvicorn.Config(
        portal.app(client_for),
        ssl_certfile=str(tls / "server.pem"),
        ssl_keyfile=str(tls / "server.key"),
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        deadline = time.monotonic() + START_S
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield f"https://localhost:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START_S)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with its portal, which holds nothing but what tests put there."""
    with running_server(tmp_path_factory.mktemp("server")) as (url, data):
        token = (data / "secrets" / "owner-token").read_text().strip()
        with Client(url, token=token, ca_file=data / "tls" / "ca.pem") as owner:
            yield Site(url, data, owner)


@pytest.fixture(scope="session")
def model(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model with hostile words in all that people may write."""
    folder = tmp_path_factory.mktemp("model") / "digits"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"not a pickle, but bytes" * 100)
    (folder / "<b>&.txt").write_text("labels")
    workspace = Workspace.create("demo", client=site.owner, exist_ok=True)
    return Model.register(workspace, folder, "digits", tags={HOSTILE: HOSTILE}, description=HOSTILE)


@pytest.fixture
def visitor(site: Site) -> Iterator[httpx.Client]:
    with site.visitor() as client:
        yield client


@pytest.fixture
def browser(visitor: httpx.Client, site: Site) -> httpx.Client:
    """A session that has signed in."""
    answer = visitor.post("/sign-in", data={"code": site.new_code()}, headers=FROM_HERE)
    assert answer.status_code == 303, answer.text
    return visitor


@pytest.fixture
def portal_over(site: Site) -> Iterator[Callable[[Callable[[str], Client]], httpx.Client]]:
    """Makes a portal over other clients, and gives a browser on it."""
    with ExitStack() as stack:

        def make(client_for: Callable[[str], Client]) -> httpx.Client:
            url = stack.enter_context(running_portal(client_for, site.data / "tls"))
            return stack.enter_context(Site(url, site.data, site.owner).visitor())

        yield make
