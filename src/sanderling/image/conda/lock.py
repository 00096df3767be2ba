"""Which conda packages an image has: the choice, and its form on disk.

CACHE/conda/locks/KEY.json  {"version": 1, "made_at": T, "packages": [{...}]}
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sanderling.durable import write_durably
from sanderling.errors import Invalid
from sanderling.image.interpreter import Interpreter
from sanderling.image.keep import read_json
from sanderling.oci import Digest, Platform

LOCK_VERSION = 1
PREFIX = "opt/conda"


@dataclass(frozen=True, slots=True)
class CondaPackage:
    """One chosen package. No credentials in *url*; *channel* is the URL of its channel."""

    name: str
    version: str
    build: str
    subdir: str
    url: str
    sha256: str
    size_bytes: int | None
    channel: str
    is_noarch_python: bool = False
    needs_python: bool = False
    site: str | None = None  # of python itself, where it is not the usual one: "lib/python3.13t/site-packages"

    @property
    def file_name(self) -> str:
        """The package's own name, as "numpy-2.1.0-py312h58c1407_0.conda"."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def is_local(self) -> bool:
        """Whether its channel is a folder of this machine."""
        return self.url.startswith("file:")

    @property
    def shown_channel(self) -> str:
        """The channel as an image may name it: a folder's own name tells nothing of the machine."""
        return unquote(self.channel.rsplit("/", 1)[-1]) if self.is_local else self.channel

    @property
    def digest(self) -> Digest:
        """The sha256 as a digest."""
        return Digest.parse(f"sha256:{self.sha256}")

    @property
    def minor(self) -> str:
        """The first two numbers of the version."""
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class CondaLock:
    """All packages for one platform, sorted by name."""

    platform: Platform
    made_at: datetime
    packages: tuple[CondaPackage, ...]

    def find(self, name: str) -> CondaPackage | None:
        """The package called *name*."""
        return next((package for package in self.packages if package.name == name), None)

    @property
    def python(self) -> CondaPackage:
        """Python itself: what is chosen always has it, and Invalid is raised when a damaged lock has not."""
        found = self.find("python")
        if found is None:
            raise Invalid(f"the conda packages chosen for {self.platform} have no python; name it in the environment")
        return found

    def interpreter(self, glibc: tuple[int, int]) -> Interpreter:
        """Python as these packages bring it, on a base with *glibc*."""
        python = self.python
        site = python.site or f"lib/python{python.minor}/site-packages"
        return Interpreter(python.minor, PREFIX, f"{PREFIX}/{site}", glibc)

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "version": LOCK_VERSION,
            "platform": str(self.platform),
            "made_at": self.made_at.isoformat(),
            "packages": [asdict(package) for package in self.packages],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "CondaLock | None":
        """Read what `to_json` wrote; None when it is something else."""
        if data.get("version") != LOCK_VERSION:
            return None
        try:
            packages = tuple(CondaPackage(**package) for package in data["packages"])
            return cls(Platform.parse(data["platform"]), datetime.fromisoformat(data["made_at"]), packages)
        except (KeyError, TypeError, ValueError):
            return None

    @classmethod
    def read(cls, path: Path) -> "CondaLock | None":
        """The lock in the file *path*, or None."""
        data = read_json(path)
        return cls.from_json(data) if data is not None else None

    def write(self, path: Path) -> None:
        """Keep it at *path*."""
        write_durably(path, json.dumps(self.to_json(), indent=1).encode())
