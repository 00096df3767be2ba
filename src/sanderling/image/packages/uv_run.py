"""Ask uv for a choice of versions: one call, for a platform and a Python that need not be this machine's.

- Wheels only: nothing is built or run.
- uv's own environment variables and configuration of the host count (indexes, credentials, certificates).
- Index URLs and their credentials go through a file that only this user can read, never through arguments.
- uv takes the names of platforms from a list, and 32-bit ARM is not on it. But it can also ask an interpreter
  what it is: for ARM, it is given a program that answers as the device's Python would.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from sanderling.errors import Unavailable
from sanderling.image.environment.environment import LOCAL_WHEEL, Environment
from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.tags import MACHINES
from sanderling.oci import Platform

TIMEOUT_S = 300
LOCK_NAME = "pylock.toml"
_KNOWN_TO_UV = frozenset({"x86_64", "aarch64"})

# uv calls it as ``python -I -B -c CODE ...``; the code prints what the interpreter is.
_DEVICE_PYTHON = """\
import os, platform, sys, sysconfig
machine, glibc, at = sys.argv[1], sys.argv[2], sys.argv.index("-c")
ask = os.confstr
os.confstr = lambda name: f"glibc {glibc}" if name == "CS_GNU_LIBC_VERSION" else ask(name)
platform.machine = lambda: machine
sysconfig.get_platform = lambda: f"linux-{machine}"
code, sys.argv = sys.argv[at + 1], ["-c", *sys.argv[at + 2:]]
exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What uv said: *lock* is None when it found no choice, *folder* what its relative paths count from."""

    lock: str | None
    said: str
    folder: Path


def ask_uv(
    environment: Environment,
    platform: Platform,
    python: Interpreter,
    cache: Path,
    without: Sequence[str] = (),
    verbose: bool = False,
) -> Answer:
    """Resolve *environment* as if the packages *without* were not needed. Raises Unavailable after 300 s."""
    with tempfile.TemporaryDirectory(prefix="sanderling-resolve-") as name:
        folder = Path(name)
        options = _write_inputs(folder, environment, without)
        command = [
            *(find_uv_bin(), "pip", "compile", "requirements.in", "--no-header", "--color", "never"),
            *("--format", "pylock.toml", "--output-file", LOCK_NAME, "--only-binary", ":all:"),
            *("--no-python-downloads", "--python-version", python.version),
            *_target(folder, platform, python),
            *options,
            *(("--verbose",) if verbose else ()),
        ]
        variables = {"UV_CACHE_DIR": str(cache), "UV_NO_PROGRESS": "1"} | dict(os.environ)
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as e:
            raise Unavailable(f"no choice of versions after {TIMEOUT_S} s; pin more of them") from e
        lock = (folder / LOCK_NAME).read_text("utf-8") if done.returncode == 0 else None
        return Answer(lock, done.stderr.decode("utf-8", "replace"), folder)


def _write_inputs(folder: Path, environment: Environment, without: Sequence[str]) -> list[str]:
    """Write what uv reads, and return the options that name it."""
    for wheel in environment.wheels:
        (folder / wheel.file_name).symlink_to(wheel.source.absolute())
    place = f"{folder.as_uri()}/"
    requirements = [line.replace(f" @ {LOCAL_WHEEL}", f" @ {place}") for line in environment.requirements]
    flags = [option for option in environment.options if option == "--pre"]
    lines = [option for option in environment.options if option not in flags]
    _write(folder / "requirements.in", [*lines, *requirements])
    options = ["--prerelease", "allow"] if flags else []
    if environment.constraints:
        _write(folder / "constraints.txt", environment.constraints)
        options += ["--constraints", "constraints.txt"]
    if without:
        _write(folder / "overrides.txt", [f"{name} ; python_version < '0'" for name in without])
        options += ["--overrides", "overrides.txt"]
    return options


def _write(path: Path, lines: Sequence[str]) -> None:
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _target(folder: Path, platform: Platform, python: Interpreter) -> list[str]:
    machine, glibc = MACHINES[str(platform)], python.glibc
    if machine in _KNOWN_TO_UV:
        return ["--python", sys.executable, "--python-platform", f"{machine}-manylinux_{glibc[0]}_{glibc[1]}"]
    answers, program = folder / "device_python.py", folder / "python3"
    answers.write_text(_DEVICE_PYTHON, "utf-8")
    call = shlex.join([sys.executable, "-I", "-B", str(answers), machine, f"{glibc[0]}.{glibc[1]}"])
    program.write_text(f'#!/bin/sh\nexec {call} "$@"\n', "utf-8")
    program.chmod(0o700)
    return ["--python", str(program)]
