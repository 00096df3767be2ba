"""Choose versions: from requirements to wheels with URL and sha256, by uv.

- For a platform and a Python that need not be this machine's; wheels only, so nothing is built or run.
- uv's own environment variables and configuration of the host count (indexes, credentials, certificates).
- A choice is kept for a day under what it was made from, so that a rebuild is quick and equal;
  when no index answers, an older choice serves and the log says so.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from uv import find_uv_bin

from sanderling.durable import write_durably
from sanderling.errors import Invalid, Unavailable
from sanderling.image.environment.conda_file import Environment
from sanderling.image.events import Log
from sanderling.image.interpreter import Interpreter
from sanderling.image.keep import read_json
from sanderling.image.packages.uv_errors import explain
from sanderling.image.packages.wheel_sources import ANY, WheelSources
from sanderling.oci import Digest, Platform

LOCK_VERSION = 1
LOCK_MAX_AGE = timedelta(hours=24)
TIMEOUT_S = 300
# The processors by the names that wheels have.
PLATFORMS = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_INDEX_VARIABLES = ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS")


@dataclass(frozen=True, slots=True)
class Wheel:
    """One chosen wheel. *sha256* and *size_bytes* are None when its index does not say; no credentials in *url*."""

    name: str
    version: str
    url: str
    sha256: str | None
    size_bytes: int | None

    @property
    def file_name(self) -> str:
        """The wheel's own name."""
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])

    @property
    def digest(self) -> Digest | None:
        """The sha256 as a digest."""
        return Digest.parse(f"sha256:{self.sha256}") if self.sha256 else None


class Resolver:
    """Resolves with uv; choices are kept below *cache*."""

    def __init__(self, cache: Path, log: Log, sources: WheelSources = ANY) -> None:
        self._sources = sources
        self._folder = cache / "locks"
        self._uv_cache = cache / "uv"
        self._log = log

    def resolve(self, environment: Environment, platform: Platform, python: Interpreter) -> list[Wheel]:
        """The wheels for *environment* on *platform* and its *python*, sorted by name.

        Raises Invalid (ResolutionFailed) naming the package and the way out, or
        Unavailable when no index answers.
        """
        if str(platform) not in PLATFORMS:
            raise Invalid(f"images for {platform} cannot be built; possible are {', '.join(PLATFORMS)}")
        if not environment.requirements:
            return []
        path = self._folder / f"{self._key(environment, platform, python)}.json"
        kept = self._read(path)
        now = datetime.now(UTC)
        if kept is not None and (self._sources.is_offline or timedelta(0) <= now - kept[0] < LOCK_MAX_AGE):
            self._log.say("resolve", f"{len(kept[1])} packages, as chosen at {kept[0]:%Y-%m-%d %H:%M} UTC")
            return kept[1]
        self._log.say("resolve", f"choosing versions for {platform}: {', '.join(environment.requirements)}")
        try:
            wheels = self._run(environment, platform, python)
        except Unavailable as e:
            if kept is None:
                raise
            self._log.warn("resolve", f"{e.message}. The versions chosen at {kept[0]:%Y-%m-%d %H:%M} UTC are used")
            return kept[1]
        data = {"version": LOCK_VERSION, "made_at": now.isoformat(), "wheels": [asdict(wheel) for wheel in wheels]}
        write_durably(path, json.dumps(data, indent=1).encode())
        self._log.say("resolve", ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels))
        return wheels

    def _key(self, environment: Environment, platform: Platform, python: Interpreter) -> str:
        variables = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
        target = [str(platform), python.version, python.glibc]
        made_from: list[object] = [environment.requirements, environment.options, target, variables]
        made_from += [one] if (one := self._sources.identity()) is not None else []
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    def _read(self, path: Path) -> tuple[datetime, list[Wheel]] | None:
        data = read_json(path)
        if data is None or data.get("version") != LOCK_VERSION:
            return None
        try:
            return datetime.fromisoformat(data["made_at"]), [Wheel(**wheel) for wheel in data["wheels"]]
        except (KeyError, TypeError, ValueError):
            return None

    def _run(self, environment: Environment, platform: Platform, python: Interpreter) -> list[Wheel]:
        with tempfile.TemporaryDirectory(prefix="sanderling-resolve-") as folder:
            wanted, lock = Path(folder, "requirements.in"), Path(folder, "pylock.toml")
            wanted.write_text(
                "\n".join([*self._sources.options(environment.options), *environment.requirements]) + "\n", "utf-8"
            )
            wanted.chmod(0o600)
            command = [
                *(find_uv_bin(), "pip", "compile", "requirements.in", "--quiet", "--no-header", "--color", "never"),
                *("--format", "pylock.toml", "--output-file", "pylock.toml", "--only-binary", ":all:"),
                *("--python", sys.executable, "--no-python-downloads"),
                *("--python-version", python.version, "--python-platform", _machine(platform, python)),
            ]
            variables = {"UV_CACHE_DIR": str(self._uv_cache), "UV_NO_PROGRESS": "1"} | self._sources.variables()
            try:
                done = subprocess.run(
                    command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S
                )
            except subprocess.TimeoutExpired as e:
                raise Unavailable(f"no choice of versions after {TIMEOUT_S} s; pin more of them") from e
            if done.returncode != 0:
                text = done.stderr.decode("utf-8", "replace")
                raise self._sources.explain(text) or explain(text, platform)
            return parse_lock(lock.read_text("utf-8"), lock, platform, python)


def parse_lock(text: str, path: Path, platform: Platform, python: Interpreter) -> list[Wheel]:
    """The wheels that the ``pylock.toml`` *text* names (PEP 751); relative paths count from *path*."""
    wheels = []
    for package in tomllib.loads(text).get("packages", []):
        choices = package.get("wheels") or [package.get("archive") or {}]
        chosen = min(choices, key=lambda choice: _rank(choice, platform, python))
        name, version = str(package["name"]), str(package.get("version", ""))
        url = str(chosen.get("url") or "")
        if not url and chosen.get("path"):
            url = urljoin(path.as_uri(), str(chosen["path"]))
        if not urlsplit(url).path.endswith(".whl"):
            raise Invalid(f"the package '{name}' is not there as a wheel; images are made of wheels only")
        parts = urlsplit(url)
        plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
        sha256 = chosen.get("hashes", {}).get("sha256")
        size = chosen.get("size")
        version = version or plain.rsplit("/", 1)[-1].split("-")[1]
        wheels.append(Wheel(name, version, plain, sha256, int(size) if size is not None else None))
    return sorted(wheels, key=lambda wheel: wheel.name)


def _rank(choice: dict[str, Any], platform: Platform, python: Interpreter) -> int:
    """How well a wheel fits: 0 is best. uv lists every wheel of the version that would run."""
    name = unquote(str(choice.get("url") or choice.get("path") or "").partition("#")[0].rsplit("/", 1)[-1])
    try:
        tags = parse_wheel_filename(name)[3]
    except InvalidWheelFilename:
        return len(_tags(platform, python))
    order = _tags(platform, python)
    return min((order.get(tag, len(order)) for tag in tags), default=len(order))


def _machine(platform: Platform, python: Interpreter) -> str:
    """The platform in uv's words."""
    return f"{PLATFORMS[str(platform)]}-manylinux_{python.glibc[0]}_{python.glibc[1]}"


@cache
def _tags(platform: Platform, python: Interpreter) -> dict[Tag, int]:
    """The tags of wheels that run on the base, best first."""
    machine = PLATFORMS[str(platform)]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(python.glibc[1], 4, -1)]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    version = tuple(int(part) for part in python.version.split("."))
    ordered = [
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms),
    ]
    return {tag: place for place, tag in reversed(list(enumerate(ordered)))}


def logins(environment: Environment) -> dict[str, tuple[str, str]]:
    """User and password by host, from the URLs of indexes in uv's variables and in *environment*."""
    texts = [os.environ.get(name, "") for name in _INDEX_VARIABLES] + list(environment.options)
    found: dict[str, tuple[str, str]] = {}
    for match in re.finditer(r"https?://[^\s]+", " ".join(texts)):
        parts = urlsplit(match[0])
        if parts.username is not None:
            found[parts.netloc.rpartition("@")[2]] = (unquote(parts.username), unquote(parts.password or ""))
    return found
