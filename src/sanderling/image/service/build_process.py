"""Run one build in a process of its own, and end it with all its children when it must end.

A worker gets of our environment what it needs to reach indexes and to find its
programs, and nothing else: what the server knows is not the build's. All its
processes carry the build's folder in a variable, by which they are found when it
must end, whatever session they have made for themselves.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sanderling.durable import write_durably
from sanderling.image.events import Event
from sanderling.image.gate.gate import MARK
from sanderling.sandbox.processes import kill_marked

GRACE_S = 0.5
MAX_LINE = 1 << 20
KEPT_LINES = 30
_NEEDED = {
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "DOCKER_CONFIG",
    "DOCKER_HOST",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
}
_NEEDED_PREFIXES = ("LC_", "PYTHON", "UV_", "PIP_", "COV_", "COVERAGE_")


def environment_of_worker(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What a worker for the build in *folder* gets of *environ*."""
    kept = {k: v for k, v in environ.items() if k.upper() in _NEEDED or k.startswith(_NEEDED_PREFIXES)}
    return kept | {MARK: str(folder)}


class BuildProcess:
    """A worker for the build described in *folder*/spec.json."""

    def __init__(self, folder: Path, spec: dict[str, Any], secrets: dict[str, str], time_limit_s: float) -> None:
        self._folder = folder
        self._time_limit_s = time_limit_s
        self._secrets = secrets
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._is_stopped = False
        self.is_late = False
        write_durably(folder / "spec.json", json.dumps(spec, indent=1).encode())

    def run(self, tell: Callable[[Event], None]) -> dict[str, Any]:
        """Run to the end, handing each event to *tell*; return ``{"result": ...}`` or ``{"error": ...}``.

        A worker that dies without a word gives an error with its last lines.
        """
        with self._lock:
            if self._is_stopped:
                return {"error": {"kind": "cancelled", "message": "the build was stopped before it began"}}
            process = self._start()
        timer = threading.Timer(self._time_limit_s, self._end_late)
        timer.daemon = True
        timer.start()
        last: dict[str, Any] = {}
        noise: list[str] = []
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(self._secrets) + "\n")
                process.stdin.flush()
            while line := process.stdout.readline(MAX_LINE):
                data = _parse(line)
                if data is None:
                    noise = [*noise, line.rstrip()][-KEPT_LINES:]
                elif "step" in data:
                    tell(Event.from_json(data))
                else:
                    last = data
            code = process.wait()
        finally:
            timer.cancel()
            self.stop()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        if "result" in last or "error" in last:
            return last
        for line in noise:
            tell(Event(0, "", "worker", line, level="error"))
        what = f"by signal {-code}" if code < 0 else f"with code {code}"
        return {"error": {"kind": "unavailable", "message": f"the build worker ended {what}, without a result"}}

    def stop(self) -> None:
        """End the worker and all that it started; may be called at any time, and twice."""
        with self._lock:
            self._is_stopped = True
            process = self._process
        if process is None:
            return
        if process.poll() is None:
            self._end(process)
        while kill_marked(MARK, str(self._folder)):  # one that was being started is seen at the second look
            time.sleep(0.01)

    def _end(self, process: subprocess.Popen[str]) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            try:
                process.wait(GRACE_S)
                return
            except subprocess.TimeoutExpired:
                continue

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "sanderling.image", str(self._folder / "spec.json")]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            env=environment_of_worker(os.environ, self._folder),
        )
        return self._process

    def _end_late(self) -> None:
        self.is_late = True
        self.stop()


def _parse(line: str) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
