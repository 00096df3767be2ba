"""Notes what a build uses, while it does: several threads tell it, and at the end it says what each platform holds."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.image.bases import Base
from sanderling.image.conda.lock import CondaLock
from sanderling.image.debian.lock import BaseLock
from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.resolve import Wheel
from sanderling.image.supply_chain.contents import CondaPackage, Contents, FileGroup, locked_wheels
from sanderling.image.supply_chain.licences import Licences
from sanderling.oci import Digest, Platform

_AT_ONCE = 2
_ORDER = {"model": 0, "application": 1, "scoring": 2}


def base_name(base: Base) -> str:
    """The reference, by digest, of the image that *base* is."""
    return f"{str(base.record['name']).partition('@')[0]}@{base.record['digest']}"


class Used:
    """What one build used so far. *cache* keeps what is known of licences, *downloads* has packages' files."""

    def __init__(self, cache: Path, downloads: FileBlobs) -> None:
        self._licences, self._downloads = Licences(cache), downloads
        self._lock = threading.Lock()
        self._debian: dict[str, BaseLock] = {}
        self._suites: dict[str, str] = {}
        self._bases: dict[str, str] = {}
        self._wheels: dict[str, tuple[Wheel, ...]] = {}
        self._conda: dict[str, tuple[CondaPackage, ...]] = {}
        self._files: dict[tuple[int, str, str], FileGroup] = {}

    def base(self, platform: Platform, base: Base) -> None:
        """The image for *platform* stands on *base*."""
        with self._lock:
            if base.debian is not None:
                self._debian[str(platform)], self._suites[str(platform)] = base.debian, base.debian.release
            else:
                self._bases[str(platform)] = base_name(base)

    def wheels(self, platform: Platform, wheels: Sequence[Wheel], files: Mapping[str, Path]) -> None:
        """*wheels* are in the image for *platform*; *files* says where each is; the cache calls it by its sha256."""
        locked = locked_wheels(wheels, {name: path.name for name, path in files.items()})
        with self._lock:
            self._wheels[str(platform)] = locked

    def conda(self, platform: Platform, lock: CondaLock) -> None:
        """The packages of *lock* are in the image for *platform*."""
        packages = [
            CondaPackage(p.name, p.version, p.build, p.subdir, p.shown_channel, p.url, p.sha256, p.size_bytes)
            for p in lock.packages
        ]
        with self._lock:
            self._conda[str(platform)] = tuple(sorted(packages, key=lambda one: (one.name, one.subdir)))

    def files(self, kind: str, name: str, version: str, digests: Mapping[str, str]) -> None:
        """Files are in the image for each platform: their sha256 by path; see `FileGroup`."""
        with self._lock:
            self._files[_ORDER.get(kind, 9), name, version] = FileGroup(kind, name, version, dict(digests))

    def contents(self, platforms: Sequence[Platform], python: Interpreter) -> tuple[Contents, ...]:
        """What the image for each of *platforms* holds."""
        licences = self._all_licences()
        groups = tuple(self._files[key] for key in sorted(self._files))
        found = []
        for platform in platforms:
            name = str(platform)
            lock = self._debian.get(name)
            debian, wheels = lock.packages if lock else (), self._wheels.get(name, ())
            here = {package.sha256 for package in debian} | {wheel.sha256 for wheel in wheels}
            found.append(
                Contents(
                    platform=platform,
                    python=python,
                    debian=debian,
                    suite=self._suites.get(name, ""),
                    base=self._bases.get(name),
                    conda=self._conda.get(name, ()),
                    wheels=wheels,
                    files=groups,
                    licences={sha256: said for sha256, said in licences.items() if sha256 in here and said},
                )
            )
        return tuple(found)

    def _all_licences(self) -> dict[str, tuple[str, ...]]:
        wanted = {package.sha256: ("deb", package.name) for lock in self._debian.values() for package in lock.packages}
        wanted |= {
            wheel.sha256: ("wheel", wheel.name) for wheels in self._wheels.values() for wheel in wheels if wheel.sha256
        }
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # unpacking lets other threads run
            said = pool.map(self._licence_of, wanted, *zip(*wanted.values(), strict=True)) if wanted else ()
            return dict(zip(wanted, said, strict=True))

    def _licence_of(self, sha256: str, kind: str, name: str) -> tuple[str, ...]:
        return self._licences.of(kind, name, sha256, self._path(sha256))

    def _path(self, sha256: str) -> Path | None:
        digest = Digest.parse(f"sha256:{sha256}")
        return self._downloads.path(digest) if self._downloads.find(digest) is not None else None
