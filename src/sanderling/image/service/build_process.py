"""Run one build in a process of its own, and end it with all its children when it must end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sanderling.durable import write_durably
from sanderling.image.events import Event

GRACE_S = 3.0
MAX_LINE = 1 << 20
KEPT_LINES = 30


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
        """End the worker and its children; may be called at any time, and twice."""
        with self._lock:
            self._is_stopped = True
            process = self._process
        if process is None or process.poll() is not None:
            return
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
