"""The real scoring process, for tests: started on a free port, stopped by its id."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

SRC = Path(__file__).parents[2] / "src"
LISTENING = re.compile(r"listening on http://(?:127\.0\.0\.1|\[::1\]):(\d+)")


class ScoringProcess:
    """`python -m sanderling_scoring` with a script in *folder*."""

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        python: str = sys.executable,
    ) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("IOTEDGE_", "AZUREML", "AML_", "SERVER_"))}
        self.process = subprocess.Popen(
            [python, "-m", "sanderling_scoring", *args],
            env={
                **clean,
                "PYTHONPATH": str(SRC),
                "AML_APP_ROOT": str(folder),
                "AZUREML_ENTRY_SCRIPT": "score.py",
                "SERVER_HOST": "127.0.0.1",
                "SERVER_PORT": "0",
                **(env or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: dict[str, list[str]] = {"out": [], "err": []}
        self._readers = [
            threading.Thread(target=self._read, args=(stream, self._lines[name]), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def stdout(self) -> str:
        return "".join(self._lines["out"])

    @property
    def log(self) -> str:
        return "".join(self._lines["err"])

    @property
    def port(self) -> int:
        self.wait_for_log("listening on")
        found = LISTENING.search(self.log)
        assert found is not None, self.log
        return int(found[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def wait_for_log(self, text: str, count: int = 1, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while self.log.count(text) < count:
            if self.process.poll() is not None:
                self.exit_code()
                if self.log.count(text) >= count:
                    return
                raise AssertionError(f"ended with {self.process.returncode} before {text!r}:\n{self.log}")
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.log}"
            time.sleep(0.01)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, timeout_s: float = 20) -> int:
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(5)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for reader in self._readers:
            reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    @staticmethod
    def _read(stream: object, lines: list[str]) -> None:
        for line in stream:  # type: ignore[attr-defined]
            lines.append(line)


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send *data* and return all that comes until the peer closes."""
    sock.sendall(data)
    return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    received = bytearray()
    while piece := sock.recv(65536):
        received += piece
    return bytes(received)


def read_responses(sock: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Return *count* responses (status, body) in the order in which they come."""
    buffer, found = b"", []
    while len(found) < count:
        head, separator, rest = buffer.partition(b"\r\n\r\n")
        if separator:
            length = re.search(rb"(?i)content-length: (\d+)", head)
            size = int(length[1]) if length else 0
            if len(rest) >= size:
                found.append((int(head.split(b" ", 2)[1]), rest[:size]))
                buffer = rest[size:]
                continue
        piece = sock.recv(65536)
        assert piece, f"the server closed after {len(found)} responses and {buffer!r}"
        buffer += piece
    return found
