"""RUN in Docker, Podman or Buildah, through their own programs.

The image so far goes in as a docker-archive whose config says what is run, and as
whom; it comes out as another one, with one layer more. What is left in the engine is
removed, whatever happens.

BUILDAH_ISOLATION=chroot is heeded by Podman and Buildah: for machines that allow no containers.
"""

import json
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sanderling.errors import SanderlingError, Unavailable
from sanderling.image.local.engine import ASK_S, Engine, NoEngine, find_engine
from sanderling.oci import Platform

QUIET_S = 1800
LAST_LINES = 30
MAX_LINE = 2000
Say = Callable[[str], None]


class RunFailed(SanderlingError):
    """A command ended with *code*; *last_lines* are what it said last."""

    def __init__(self, code: int, last_lines: Sequence[str]) -> None:
        super().__init__(f"it ended with code {code}: " + "\n".join(last_lines))
        self.code, self.last_lines = code, tuple(last_lines)


def find_run_engine() -> Engine:
    """The first of Docker, Podman and Buildah that answers. Raises NoEngine."""
    try:
        return find_engine()
    except NoEngine as e:
        reasons = e.reasons
    program = shutil.which("buildah")
    if program is None:
        raise NoEngine([*reasons, "buildah is not installed"])
    try:
        done = subprocess.run([program, "info"], stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_S)
        host = json.loads(done.stdout)["host"]
        return Engine(program, Platform.parse(f"{host['os']}/{host['arch']}"))
    except (subprocess.SubprocessError, OSError, ValueError, KeyError) as e:
        raise NoEngine([*reasons, "buildah does not answer"]) from e


def run_in(engine: Engine, archive: Path, name: str, command: Sequence[str], user: str, saved: Path, say: Say) -> None:
    """Run *command* in the image *name* of *archive*, and write the image with what came of it to *saved*.

    Environment, user and folder are the image's. Raises RunFailed when the command
    fails, Unavailable when the engine does.
    """
    calls = _Calls(engine.program, say)
    match Path(engine.program).name:
        case "buildah":
            _buildah(calls, archive, name, command, user, saved)
        case "podman":
            _podman(calls, archive, name, command, saved)
        case _:
            _docker(calls, archive, name, saved)


def _docker(calls: "_Calls", archive: Path, name: str, saved: Path) -> None:
    container, result = _plain(name), f"{name}-done"
    calls.quietly("load", "--input", str(archive))
    with calls.cleaned(("rm", "--force", container), ("rmi", "--force", result), ("rmi", "--force", name)):
        calls.aloud("run", "--name", container, name)
        calls.quietly("commit", container, result)
        calls.quietly("save", "--output", str(saved), result)


def _podman(calls: "_Calls", archive: Path, name: str, command: Sequence[str], saved: Path) -> None:
    result = f"{name}-done"
    calls.quietly("load", "--quiet", "--input", str(archive))
    with calls.cleaned(("rmi", "--force", result), ("rmi", "--force", name)):
        with tempfile.TemporaryDirectory() as folder:
            steps = Path(folder, "Dockerfile")
            # Not `podman run`: a build runs where containers are not allowed, too.
            steps.write_text(f"FROM {name}\nRUN {json.dumps(list(command))}\n")
            options = ("--no-cache", "--pull=never", "--layers=false", "--force-rm", "--format=docker")
            calls.aloud("build", *options, f"--tag={result}", f"--file={steps}", folder)
        calls.quietly("save", "--quiet", "--format=docker-archive", f"--output={saved}", result)


def _buildah(calls: "_Calls", archive: Path, name: str, command: Sequence[str], user: str, saved: Path) -> None:
    container = _plain(name)
    with calls.cleaned(("rm", container), ("rmi", "--force", name)):
        calls.quietly("from", "--quiet", f"--name={container}", f"docker-archive:{archive}")
        calls.aloud("run", f"--user={user}", container, "--", *command)
        calls.quietly("commit", "--quiet", "--format=docker", container, f"docker-archive:{saved}:{name}-done")


def _plain(name: str) -> str:
    return name.rpartition("/")[2].replace(":", "-")


@dataclass(frozen=True, slots=True)
class _Calls:
    program: str
    say: Say

    def quietly(self, *arguments: str) -> None:
        """Call the engine. Raises Unavailable with its own words."""
        try:
            done = subprocess.run(
                [self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=QUIET_S
            )
        except (subprocess.TimeoutExpired, OSError) as e:
            raise Unavailable(f"{self._name} {arguments[0]}: {e}") from e
        if done.returncode != 0:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise Unavailable(f"{self._name} {arguments[0]} failed: {' '.join(words[-2:])[:600]}")

    def aloud(self, *arguments: str) -> None:
        """Call the engine and tell each line. Raises RunFailed."""
        last: deque[str] = deque(maxlen=LAST_LINES)
        command = [self.program, *arguments]
        try:
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as e:
            raise Unavailable(f"{self._name} {arguments[0]}: {e}") from e
        with started as process:
            try:
                assert process.stdout is not None
                while raw := process.stdout.readline(1 << 16):
                    line = raw.decode("utf-8", "replace").rstrip()[:MAX_LINE]
                    if line:
                        last.append(line)
                        self.say(line)
                code = process.wait()
            except BaseException:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
                raise
        if code != 0:
            raise RunFailed(code, last)

    @contextmanager
    def cleaned(self, *calls: tuple[str, ...]) -> Iterator[None]:
        """Make these calls at the end, whatever they answer."""
        try:
            yield
        finally:
            for call in calls:
                with suppress(Unavailable):
                    self.quietly(*call)

    @property
    def _name(self) -> str:
        return Path(self.program).name
