"""Processes that the demo starts, and ends for certain.

Each child leads a process group of its own, so that Ctrl-C in the terminal
reaches the demo alone, and so that what a child leaves behind can be ended with
it. They end in reverse order: the device before the server.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import IO

from sanderling.demo.interruption import Interruption
from sanderling.errors import Unavailable
from sanderling.sdk.hints import hinted

GRACE_S = 15.0
TAIL_LINES = 15
TAIL_BYTES = 16_384
# What a child must not inherit: it has its own way to its secrets.
PRIVATE_VARIABLES = ("SANDERLING_TOKEN", "SANDERLING_CA", "SANDERLING_CONNECTION_STRING")


class ChildEnded(Unavailable):
    """A process that should run has ended. *log* is where it wrote, *tail* its last lines."""

    def __init__(self, name: str, code: int, log: Path) -> None:
        super().__init__(f"{name} ended with exit code {code}; its log is {log}")
        self.log, self.tail = log, tail_of(log)


class Child:
    """One process and its log."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name, self.process, self.log = name, process, log

    def check(self) -> None:
        """Raise ChildEnded if it runs no longer."""
        code = self.process.poll()
        if code is not None:
            raise hinted(ChildEnded(self.name, code, self.log), f"less {self.log}")

    def stop(self) -> None:
        """End it: politely, then surely; and then whatever is left in its group."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
        # The group outlives its leader as long as anyone is in it.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Children:
    """All that were started; leaving it ends them all."""

    def __init__(self, interruption: Interruption, logs: Path) -> None:
        self._interruption, self._logs = interruption, logs
        self._children: list[Child] = []

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        with self._interruption.ignored():
            while self._children:
                self._children.pop().stop()

    def start(
        self, name: str, arguments: Sequence[str], *, given: str | None = None, more: Mapping[str, str] | None = None
    ) -> Child:
        """Start `sanderling ARGUMENTS`; *given* is one line for its stdin, where secrets travel."""
        env = {key: value for key, value in os.environ.items() if key not in PRIVATE_VARIABLES}
        log = self._logs / f"{name}.log"
        with self._interruption.held(), open_private(log) as file:
            process = subprocess.Popen(
                # -P: what lies in the working directory must not stand in for a module.
                [sys.executable, "-P", "-m", "sanderling.cli", *arguments],
                stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**env, **(more or {})},
                start_new_session=True,
            )
            child = Child(name, process, log)
            self._children.append(child)
        if given is not None and process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.write(given.encode() + b"\n")
                process.stdin.close()
        return child

    def check(self) -> None:
        """Raise ChildEnded if one of them runs no longer."""
        for child in self._children:
            child.check()


def wait_until(what: str, condition: Callable[[], bool], children: Children, timeout_s: float) -> None:
    """Wait until *condition* holds; raise ChildEnded when a child ends first, Unavailable when it takes too long."""
    deadline = monotonic() + timeout_s
    while not condition():
        children.check()
        if monotonic() > deadline:
            raise Unavailable(f"{what}: not after {timeout_s:.0f} s")
        sleep(0.1)


def open_private(path: Path) -> IO[bytes]:
    """Open a new log that its owner alone can read: the server's holds a sign-in link."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def tail_of(log: Path) -> list[str]:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []
