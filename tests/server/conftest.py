"""A real server process, started as a user does, and clients that trust its authority alone."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

START_S = 30


@dataclass
class RunningServer:
    """One server process. `api` has the owner's token; `anyone` has none."""

    data: Path
    config: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = None
    info: dict[str, object] = field(default_factory=dict)
    _clients: list[httpx.Client] = field(default_factory=list)

    def start(self) -> "RunningServer":
        command = [sys.executable, "-m", "sanderling.server", "--data", str(self.data), "--host", "127.0.0.1"]
        command += self.options or ("--port", "0", "--mqtt-port", "0")
        self.data.parent.mkdir(parents=True, exist_ok=True)
        with (self.data.parent / "stderr").open("w") as stderr:
            env = os.environ | {"SANDERLING_CONFIG_DIR": str(self.config)}
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server did not start: {self.errors()}"
        self.info = json.loads(line)
        return self

    def errors(self) -> str:
        return (self.data.parent / "stderr").read_text()

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=str(self.data / "tls" / "ca.pem"))
        url = str(self.info["url"])
        client = httpx.Client(base_url=url, verify=context, headers=headers, timeout=30, trust_env=False)
        self._clients.append(client)
        return client

    @property
    def token(self) -> str:
        return (self.data / "secrets" / "owner-token").read_text().strip()

    @property
    def api(self) -> httpx.Client:
        return self.client(self.token)

    @property
    def anyone(self) -> httpx.Client:
        return self.client()

    def send(self, workspace: str, content: bytes) -> str:
        digest = f"sha256:{sha256(content).hexdigest()}"
        answer = self.api.put(f"/api/v1/workspaces/{workspace}/blobs/{digest}", content=content)
        assert answer.status_code == 201, answer.text
        return digest

    def stop(self, number: int = signal.SIGTERM) -> float:
        """End the process and return how many seconds that took."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        assert self.process is not None
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return time.monotonic() - began


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers of this test's own; those still running at its end are stopped."""
    made: list[RunningServer] = []

    def make(data: Path | None = None, options: tuple[str, ...] = ()) -> RunningServer:
        made.append(RunningServer(data or tmp_path / "server" / "data", tmp_path / "config", options))
        return made[-1].start()

    yield make
    for server in made:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for a module's tests, with a workspace 'demo'."""
    folder = tmp_path_factory.mktemp("server")
    running = RunningServer(folder / "data", folder / "config").start()
    answer = running.api.post("/api/v1/workspaces", json={"name": "demo"})
    assert answer.status_code == 201, answer.text
    yield running
    running.stop()
    assert running.process is not None
    assert running.process.returncode == 0, running.errors()
    assert "Traceback" not in running.errors()
