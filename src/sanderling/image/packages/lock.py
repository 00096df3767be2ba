"""Read uv's choice, a ``pylock.toml`` (PEP 751), into wheels."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from packaging.utils import canonicalize_name

from sanderling.errors import Invalid
from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.tags import rank
from sanderling.oci import Digest, Platform


@dataclass(frozen=True, slots=True)
class Wheel:
    """One chosen wheel.

    *sha256* and *size_bytes* are None when its index does not say; no credentials
    are in *url*, which is a bare file name for a local wheel; that is at *source*.
    """

    name: str
    version: str
    url: str
    sha256: str | None
    size_bytes: int | None
    source: Path | None = None

    @property
    def file_name(self) -> str:
        """The wheel's own name."""
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])

    @property
    def location(self) -> str:
        """The URL to fetch it from, on this machine."""
        return self.source.absolute().as_uri() if self.source is not None else self.url

    @property
    def digest(self) -> Digest | None:
        """The sha256 as a digest."""
        return Digest.parse(f"sha256:{self.sha256}") if self.sha256 else None


class WrongHash(Invalid):
    """No wheel of *package* has one of the digests that the requirements promise."""

    def __init__(self, package: str, version: str, *, is_named: bool) -> None:
        if is_named:
            text = "none of its wheels for this platform has a digest that the requirements list; list it (pip hash)"
        else:
            text = (
                "the requirements list digests, but none of this package, which another one needs; pin it with its own"
            )
        super().__init__(f"package '{package}' {version}: {text}")
        self.package, self.version = package, version


def parse_lock(
    text: str,
    path: Path,
    platform: Platform,
    python: Interpreter,
    hashes: Mapping[str, tuple[str, ...]] | None = None,
    needs_hashes: bool = False,
) -> list[Wheel]:
    """The wheels that the lock *text* names; relative paths count from *path*.

    *hashes* are the digests that a package's wheel may have; with *needs_hashes*,
    every package must be in it. Raises WrongHash.
    """
    wheels = []
    for package in tomllib.loads(text).get("packages", []):
        choices = package.get("wheels") or [package.get("archive") or {}]
        name, version = str(package["name"]), str(package.get("version", ""))
        allowed = (hashes or {}).get(canonicalize_name(name), ())
        if allowed or needs_hashes:
            choices = [choice for choice in choices if choice.get("hashes", {}).get("sha256") in allowed]
            if not choices:
                raise WrongHash(name, version, is_named=bool(allowed))
        wheels.append(_wheel(name, version, _best(choices, platform, python), path))
    return sorted(wheels, key=lambda wheel: wheel.name)


def _wheel(name: str, version: str, chosen: Mapping[str, Any], path: Path) -> Wheel:
    url = str(chosen.get("url") or "")
    if not url and chosen.get("path"):
        url = urljoin(path.as_uri(), str(chosen["path"]))
    if not urlsplit(url).path.endswith(".whl"):
        raise Invalid(f"the package '{name}' is not there as a wheel; images are made of wheels only")
    parts = urlsplit(url)
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
    size = chosen.get("size")
    version = version or plain.rsplit("/", 1)[-1].split("-")[1]
    return Wheel(name, version, plain, chosen.get("hashes", {}).get("sha256"), int(size) if size is not None else None)


def _best(choices: list[dict[str, Any]], platform: Platform, python: Interpreter) -> dict[str, Any]:
    """uv lists every wheel of the version that would run: the first of those that fit best."""

    def worth(choice: dict[str, Any]) -> int:
        name = unquote(str(choice.get("url") or choice.get("path") or "").partition("#")[0].rsplit("/", 1)[-1])
        found = rank(name, platform, python)
        return found if found is not None else 1 << 30

    return min(choices, key=worth)
