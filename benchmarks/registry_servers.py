"""The two servers that are compared, each a fresh process with a folder of its own."""

import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

PEER = shutil.which("docker-registry")
START_S = 60
STOP_S = 20

# What Debian ships in /etc/docker/registry/config.yml, without the password file, and without the
# log of requests: ours writes none either.
PEER_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http:
  addr: localhost:{port}
  headers: {{X-Content-Type-Options: [nosniff]}}
{tls}health:
  storagedriver: {{enabled: true, interval: 10s, threshold: 3}}
"""
PEER_TLS = "  tls: {{certificate: {certificate}, key: {key}}}\n"


class Server:
    """A running server and what it used. `ca` is set when it speaks TLS."""

    def __init__(self, name: str, command: list[str], folder: Path, port: int, ca: Path | None) -> None:
        self.name, self.port, self.folder, self.ca = name, port, folder, ca
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        return f"{'https' if self.ca else 'http'}://localhost:{self.port}"

    @property
    def address(self) -> dict[str, str | None]:
        """The part of a client's job that says where."""
        return {"url": self.url, "ca": str(self.ca) if self.ca else None}

    def wait(self) -> None:
        """Wait until it answers, or raise RuntimeError with what it said."""
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            if self.ca is None:
                connection = HTTPConnection("localhost", self.port, timeout=5)
            else:
                context = ssl.create_default_context(cafile=str(self.ca))
                connection = HTTPSConnection("localhost", self.port, timeout=5, context=context)
            connection.request("GET", "/v2/")
            status = connection.getresponse().status
            connection.close()
        except (OSError, HTTPException):
            return False
        return status == 200

    def stop(self) -> None:
        """End it, and remove what it kept."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """Return the process and all below it."""
        found, parents = [self.process.pid], {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
        for one in found:
            found += [pid for pid, parent in parents.items() if parent == one]
        return found

    def memory(self, field: str = "VmHWM") -> int:
        """Return bytes of resident memory, now (VmRSS) or at most (VmHWM), of all its processes."""
        total = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(f"{field}:"):
                    total += int(line.split()[1]) * 1024
        return total

    def cpu_s(self) -> float:
        """Return the seconds of processor time that it used so far."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def start_peer(folder: Path, is_tls: bool) -> Server:
    """Start Debian's docker-registry."""
    assert PEER is not None
    folder.mkdir(parents=True)
    port, tls, ca = free_port(), "", None
    if is_tls:
        from sanderling.server.tls import ensure_tls

        files = ensure_tls(folder / "tls", ("localhost", "127.0.0.1"), datetime.now(UTC))
        tls, ca = PEER_TLS.format(certificate=files.certificate, key=files.key), files.ca
    config = folder / "config.yml"
    config.write_text(PEER_CONFIG.format(root=folder / "root", port=port, tls=tls))
    return Server("docker-registry", [PEER, "serve", str(config)], folder, port, ca)


def start_ours(folder: Path, is_tls: bool, command: str | None) -> Server:
    """Start `sanderling registry serve`, or *command* with its options, which may say {root} and {port}."""
    folder.mkdir(parents=True)
    port, root = free_port(), folder / "root"
    words = shlex.split(command) if command else [sys.executable, "-m", "sanderling.cli", "registry", "serve"]
    if command and "{port}" in command:
        words = [word.format(root=root, port=port) for word in words]
    else:
        words += ["--root", str(root), "--port", str(port), "--no-auth", *([] if is_tls else ["--http"])]
    return Server("sanderling", words, folder, port, root / "tls" / "ca.pem" if is_tls else None)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
