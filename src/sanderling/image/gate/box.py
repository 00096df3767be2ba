"""Run one command of an image on its unpacked root, closed in: no network, nothing of the host to write to or read.

    pipe ◀── output     what it prints; the last lines are kept
    pipe ◀── report     lines of JSON on a file descriptor of its own
    pipe ◀── status     bubblewrap's: the id of the sandbox's first process; its exit code

Whatever happens, no process of the sandbox outlives the call.
"""

import contextlib
import json
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sanderling.errors import Unavailable
from sanderling.image.gate.limits import Limits, memory_of
from sanderling.image.gate.roots import Laid
from sanderling.image.recipe import APP_ROOT
from sanderling.oci import ImageConfig
from sanderling.sandbox.bubblewrap import DEFAULT_PATH, Command, File, Mount, Walls, arguments, find_user
from sanderling.sandbox.launch import Launch, Prepared
from sanderling.sandbox.processes import kill_sandbox
from sanderling.sandbox.rootfs import ensure_mount_point

KEPT_LINES = 30
_KEPT_BYTES = 64 << 10
_REPORT_BYTES = 1 << 20
_TICK_S = 0.05
_END_S = 10.0
HOSTNAME = "gate"


class NoSandbox(Unavailable):
    """This machine makes no sandbox; *reason* is the system's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no sandbox can be made here ({reason}); allow unprivileged user namespaces")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. *ended_by* is the limit, "time" or "memory", that it was killed for.

    *code* is its exit code, 128 and more for a signal. *report* are the lines it
    reported, *output* the last 30 that it printed.
    """

    code: int
    ended_by: str | None
    report: Sequence[Mapping[str, Any]]
    output: Sequence[str]
    seconds: float


@dataclass(slots=True)
class _Tail:
    """The end of a stream."""

    limit: int
    data: bytearray = field(default_factory=bytearray)

    def add(self, piece: bytes) -> None:
        self.data += piece
        if len(self.data) > 2 * self.limit:
            del self.data[: -self.limit]


class Box:
    """Runs commands in sandboxes made by *launch*, within *limits*."""

    def __init__(self, launch: Launch, limits: Limits) -> None:
        self._launch, self._limits = launch, limits

    def check(self) -> None:
        """Raise NoSandbox when this machine does not let us make a sandbox."""
        command = self._launch.probe("--unshare-net", "--unshare-ipc", "--proc", "/proc", "--dev", "/dev")
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=20,
                env=self._launch.environ,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise NoSandbox(f"bubblewrap cannot be started: {e}") from e
        if done.returncode != 0:
            raise NoSandbox(_last_line(done.stderr) or f"bubblewrap ended with code {done.returncode}")

    def run(self, laid: Laid, config: ImageConfig, more: Sequence[str], files: Mapping[str, bytes]) -> Outcome:
        """Run the entry point of *config* on *laid* with *more* arguments.

        "{report}" in an argument becomes the number of the file descriptor for the
        report. *files* are shown below /run. Raises NoSandbox, and Invalid for an
        image that names nobody or nothing to run.
        """
        run = _Run(self._launch, self._limits)
        try:
            run.start(laid, config, more, files)
            return run.watch()
        finally:
            run.end()


class _Run:
    """One sandbox, from its start to its end."""

    def __init__(self, launch: Launch, limits: Limits) -> None:
        self._launch, self._limits = launch, limits
        self._prepared = Prepared()
        self._process: subprocess.Popen[bytes] | None = None
        self._first: int | None = None  # a file descriptor of the sandbox's first process, on the host
        self._first_pid = 0
        self._streams: dict[int, _Tail] = {}
        self._began = self._measured = 0.0

    def start(self, laid: Laid, config: ImageConfig, more: Sequence[str], files: Mapping[str, bytes]) -> None:
        root = laid.root
        user = find_user(config.user, root)
        outside = self._launch.outside(user)
        report = self._pipe_from(_REPORT_BYTES)
        status = self._pipe_from(_KEPT_BYTES)
        for folder in ("/proc", "/dev", "/tmp", "/run"):
            ensure_mount_point(root, folder, folder=True)
        argv = (*config.entrypoint, *config.cmd, *(text.replace("{report}", str(report)) for text in more))
        variables = {"PATH": DEFAULT_PATH, "HOME": user.home, "HOSTNAME": HOSTNAME} | config.variables
        command = Command(argv, variables, config.working_dir or "/", user, HOSTNAME)
        shown = [File(self._prepared.hold(content), f"run/{name}") for name, content in files.items()]
        walls = Walls(has_network=False, memory_folder_bytes=self._limits.memory_folder_bytes)
        staged, mounts = [(str(root), "root")], []
        if laid.application is not None:
            place = ensure_mount_point(root, f"/{APP_ROOT}", folder=True)
            staged.append((str(laid.application), "app"))
            mounts.append(Mount(self._launch.reachable(str(laid.application), "app"), place, is_read_only=True))
        options = arguments(self._launch.reachable(str(root), "root"), command, mounts, shown, walls)
        options = ["--json-status-fd", str(status), *options]
        args = self._prepared.hold("\0".join(options).encode() + b"\0")
        limits = self._limits.for_each(outside[0])
        started = self._launch.argv(["--args", str(args), "--", *argv], staged, outside, limits)
        self._began = time.monotonic()
        try:
            self._process = subprocess.Popen(
                started,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self._prepared.fds,
                env=self._launch.environ,
                bufsize=0,
            )
        except OSError as e:
            raise NoSandbox(f"bubblewrap cannot be started: {e.strerror}") from e
        finally:
            self._prepared.close()
        assert self._process.stdout is not None
        self._streams[self._process.stdout.fileno()] = _Tail(_KEPT_BYTES)

    def _pipe_from(self, limit: int) -> int:
        """Make a pipe whose end is the sandbox's; return that end."""
        ours, theirs = os.pipe()
        self._streams[ours] = _Tail(limit)
        self._prepared.fds.append(theirs)
        return theirs

    def watch(self) -> Outcome:
        """Read what comes until the command ends or is ended."""
        assert self._process is not None
        report, status, output = self._streams.values()
        ended_by = None
        with selectors.DefaultSelector() as selector:
            for fd in self._streams:
                selector.register(fd, selectors.EVENT_READ)
            while self._process.poll() is None:
                self._read(selector, _TICK_S)
                if self._first is None and b"\n" in status.data:
                    self._find_first(status)
                ended_by = self._find_excess()
                if ended_by is not None:
                    break
            seconds = time.monotonic() - self._began
            self._kill()
            code = self._process.wait()
            until = time.monotonic() + _END_S
            while selector.get_map() and time.monotonic() < until:
                self._read(selector, _TICK_S)
        if ended_by is None and b"exit-code" not in status.data:
            raise NoSandbox(_last_line(bytes(output.data)) or f"bubblewrap ended with code {code}")
        return Outcome(
            code if code >= 0 else 128 - code, ended_by, _lines_of_json(report), _last_lines(output), seconds
        )

    def _read(self, selector: selectors.BaseSelector, timeout_s: float) -> None:
        for key, _ in selector.select(timeout_s):
            piece = os.read(key.fd, 1 << 16)
            if piece:
                self._streams[key.fd].add(piece)
            else:
                selector.unregister(key.fd)

    def _find_first(self, status: _Tail) -> None:
        """Take hold of the sandbox's first process."""
        self._first_pid = int(json.loads(bytes(status.data).splitlines()[0])["child-pid"])
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            self._first = os.pidfd_open(self._first_pid)

    def _find_excess(self) -> str | None:
        now = time.monotonic()
        if now - self._began > self._limits.time_s:
            return "time"
        if self._first is None or now - self._measured < _TICK_S:
            return None
        self._measured = now
        bound = self._limits.all_memory_bytes
        if memory_of(self._first_pid, bound) > bound:
            return "memory"
        return None

    def _kill(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            kill_sandbox(self._process.pid)
        if self._first is not None:
            # With the namespace's first process the kernel ends every other one in it.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            select.select([self._first], [], [], _END_S)

    def end(self) -> None:
        """Leave nothing; may be called at any point."""
        self._prepared.close()
        if self._process is not None:
            self._kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._streams.pop(self._process.stdout.fileno(), None)
                self._process.stdout.close()
        for fd in (*self._streams, *(() if self._first is None else (self._first,))):
            os.close(fd)
        self._streams, self._first = {}, None


def _lines_of_json(tail: _Tail) -> list[dict[str, Any]]:
    found = []
    for line in bytes(tail.data).splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def _last_lines(tail: _Tail) -> list[str]:
    return [plain(line)[:1000] for line in bytes(tail.data).decode("utf-8", "replace").splitlines()[-KEPT_LINES:]]


def plain(text: str) -> str:
    """*text* with nothing that moves a terminal's cursor or colours it."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _last_line(data: bytes) -> str:
    lines = data.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:500] if lines else ""
