"""A real `sanderling registry serve`, started as a user starts it."""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

COMMAND = [sys.executable, "-P", "-m", "sanderling.cli", "registry", "serve"]


@dataclass
class RegistryProcess:
    """A running registry; `told` is its JSON document."""

    process: "subprocess.Popen[str]"
    told: dict[str, str]
    log: Path

    @property
    def login_server(self) -> str:
        return self.told["loginServer"]

    @property
    def root(self) -> Path:
        return Path(self.told["root"])

    @property
    def password(self) -> str:
        return Path(self.told["passwordFile"]).read_text().strip()

    @property
    def basic(self) -> dict[str, str]:
        credentials = base64.b64encode(f"admin:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {credentials}"}

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        verify = ssl.create_default_context(cafile=self.told["ca"]) if self.told["ca"] else False
        return httpx.Client(base_url=self.told["url"], verify=verify, headers=headers, timeout=30, trust_env=False)

    def stop(self, number: int = signal.SIGTERM) -> float:
        """End it and return how many seconds that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return time.monotonic() - began


def start_registry(root: Path, *options: str) -> RegistryProcess:
    """Start it on a free port of the loopback, unless *options* say another; return it when it answers."""
    log = root.parent / f"{root.name}.log"
    command = [*COMMAND, "--root", str(root), "--json", *(() if "--port" in options else ("--port", "0"))]
    command += [*(() if "--host" in options or "--no-auth" in options else ("--host", "127.0.0.1")), *options]
    with log.open("a") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=dict(os.environ))
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, f"the registry did not start: {log.read_text()}"
        text += line
    return RegistryProcess(process, json.loads(text), log)


@contextmanager
def running_registry(root: Path, *options: str) -> Iterator[RegistryProcess]:
    """Yield a registry that ends with the block."""
    registry = start_registry(root, *options)
    try:
        yield registry
    finally:
        registry.stop(signal.SIGKILL)


def fail_to_start(root: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Start one that must not come up; return what it said."""
    command = [*COMMAND, "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
