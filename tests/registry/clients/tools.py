"""Runs the programs of others, with a home of their own, and says what they printed."""

import base64
import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def needed(name: str, package: str) -> str:
    """Return the path of the Debian program *name*; without it the test is skipped, and in CI it fails."""
    # Debian's own before any other: its version is the one that is promised.
    found = shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin") or shutil.which(name, path=PATH)
    if found is None:
        lack(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def lack(reason: str) -> NoReturn:
    """End the test: skipped for *reason*, in CI failed."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI nothing may be missing: {reason}")
    pytest.skip(reason)


@dataclass(frozen=True)
class Said:
    """What a program printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Tool:
    """A program with options that every call has, and an environment where it finds nothing of the user's."""

    program: str
    home: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return its environment."""
        home = str(self.home)
        base = {"PATH": PATH, "HOME": home, "XDG_RUNTIME_DIR": home, "TMPDIR": home, "LANG": "C.UTF-8"}
        return base | self.environment

    def __call__(self, *arguments: str | Path, fails: bool = False, stdin: str = "", **more: str) -> Said:
        """Run it and return what it said; it must succeed, or with *fails* must not. *more* are variables."""
        command = [self.program, *self.options, *map(str, arguments)]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            env=self.variables() | more,
            cwd=self.home,
            check=False,
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert (said.code != 0) is fails, said.text
        return said


def auth_file(folder: Path, address: str, user: str, password: str) -> Path:
    """Write the file of credentials that skopeo, podman, buildah (`REGISTRY_AUTH_FILE`) and docker read."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    file = folder / f"auth-{secrets.token_hex(4)}.json"
    file.write_text(json.dumps({"auths": {address: {"auth": pair}}}))
    return file


def needed_root(what: str) -> None:
    """Skip the test, or in CI fail it, for who is not root."""
    if os.geteuid() != 0:
        lack(f"{what} is driven as root here, which needs no user name spaces")
