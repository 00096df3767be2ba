"""Choose the base's packages, and keep the choice.

    CACHE/base/ARCHITECTURE.json    the lock: each package's version, sha256, place; when it was made

A lock that is young enough is used as it is, with no network. An older one is
made anew; when no mirror answers, the old one serves and the log says so.
"""

import json
import lzma
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pysequoia import Cert

from sanderling.durable import write_durably
from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.image.debian.mirrors import SUITE, Mirrors
from sanderling.image.debian.packages import Package, PackageIndex
from sanderling.image.debian.release import Release, ReleaseRefused, certificates, verify_release
from sanderling.image.downloads import Downloads, Source
from sanderling.image.events import Log
from sanderling.image.keep import read_json
from sanderling.oci import Digest

LOCK_VERSION = 1
LOCK_MAX_AGE = timedelta(hours=24)
SUITES = ((SUITE, "main"), (f"{SUITE}-updates", "main"), (f"{SUITE}-security", "security"))
MAX_RELEASE_BYTES = 4 << 20
MAX_INDEX_BYTES = 256 << 20

WANTED = (
    "base-files",
    "ca-certificates",
    "libc6",
    "libgomp1",
    "libpython3.11-stdlib",
    "libstdc++6",
    "media-types",
    "netbase",
    "python3.11-minimal",
    "tzdata",
)
# Only programs and maintainer scripts need these; the files we take do not.
WITHOUT = ("debconf", "debconf-2.0", "cdebconf", "dpkg", "perl-base", "openssl", "mawk", "awk", "original-awk", "gawk")


@dataclass(frozen=True, slots=True)
class BaseLock:
    """The packages of the base for one Debian architecture."""

    architecture: str
    made_at: datetime
    packages: tuple[Package, ...]
    dates: dict[str, str]  # suite -> date of its release file

    def identity(self) -> list[list[str]]:
        """What the base's bytes depend on."""
        return [[package.name, package.version, package.sha256] for package in self.packages]


class DebianArchive:
    """Debian bookworm at *mirrors*, with locks and packages kept below *cache*."""

    def __init__(
        self,
        cache: Path,
        downloads: Downloads,
        mirrors: Mirrors,
        log: Log,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        certs: Callable[[bool], list[Cert]] = certificates,
    ) -> None:
        self._folder = cache / "base"
        self._downloads, self._mirrors, self._log = downloads, mirrors, log
        self._now, self._certs = now, certs

    def lock(self, architecture: str) -> BaseLock:
        """The packages to use for *architecture* (Debian's word: amd64, arm64).

        Raises ReleaseRefused when what the mirror has cannot be trusted, and
        Unavailable when it does not answer and there is no older lock.
        """
        path = self._folder / f"{architecture}.json"
        kept = self._read(path, architecture)
        if kept is not None and timedelta(0) <= self._now() - kept.made_at < LOCK_MAX_AGE:
            return kept
        try:
            lock = self._make(architecture, kept)
        except (Unavailable, NotFound) as e:
            if kept is None:
                raise
            self._log.warn("base", f"{e.message}. The packages chosen at {kept.made_at:%Y-%m-%d %H:%M} UTC are used")
            return kept
        data = asdict(lock) | {"version": LOCK_VERSION, "made_at": lock.made_at.isoformat()}
        write_durably(path, json.dumps(data, indent=1).encode())
        return lock

    def fetch(self, lock: BaseLock) -> dict[str, Path]:
        """The package files of *lock*, by package name; fetched when not in the cache."""
        sources = [
            Source(
                package.name,
                f"{self._mirrors.root(package.archive)}/{package.filename}",
                Digest.parse(f"sha256:{package.sha256}"),
                package.size_bytes,
            )
            for package in lock.packages
        ]
        digests = self._downloads.ensure_all(sources, "base", f"{len(sources)} Debian packages")
        return {name: self._downloads.blobs.path(digest) for name, digest in digests.items()}

    def _read(self, path: Path, architecture: str) -> BaseLock | None:
        data: dict[str, Any] | None = read_json(path)
        if data is None or data.get("version") != LOCK_VERSION:
            return None
        try:
            packages = tuple(Package(**package) for package in data["packages"])
            return BaseLock(architecture, datetime.fromisoformat(data["made_at"]), packages, dict(data["dates"]))
        except (KeyError, TypeError, ValueError):
            self._log.warn("base", f"the lock {path.name} in the cache cannot be read and is made anew")
            return None

    def _make(self, architecture: str, kept: BaseLock | None) -> BaseLock:
        self._log.say("base", f"reading Debian's package index for {architecture}")
        index = PackageIndex()
        dates: dict[str, str] = {}
        for suite, archive in SUITES:
            before = datetime.fromisoformat(kept.dates[suite]) if kept and suite in kept.dates else None
            release = self._release(suite, archive, before)
            dates[suite] = release.date.isoformat()
            index.add(self._index(release, archive, architecture), archive)
        return BaseLock(architecture, self._now(), tuple(index.closure(WANTED, WITHOUT)), dates)

    def _release(self, suite: str, archive: str, before: datetime | None) -> Release:
        url = f"{self._mirrors.root(archive)}/dists/{suite}/InRelease"
        raw = self._downloads.read(url, name=f"Debian {suite} InRelease", limit=MAX_RELEASE_BYTES)
        certs = self._certs(archive == "security")
        return verify_release(raw, suite=suite, certs=certs, now=self._now(), not_before=before)

    def _index(self, release: Release, archive: str, architecture: str) -> bytes:
        place = f"main/binary-{architecture}/Packages.xz"
        if place not in release.indexes:
            raise Invalid(f"Debian {release.suite} has no packages for {architecture}")
        sha256, size = release.indexes[place]
        if size > MAX_INDEX_BYTES:
            raise ReleaseRefused(release.suite, f"its index {place} claims {size} bytes")
        root = f"{self._mirrors.root(archive)}/dists/{release.suite}"
        by_hash = f"{root}/main/binary-{architecture}/by-hash/SHA256/{sha256}"
        source = Source(
            f"{release.suite} {architecture} index",
            by_hash if release.has_by_hash else f"{root}/{place}",
            Digest.parse(f"sha256:{sha256}"),
            size,
        )
        digest = self._downloads.ensure_all([source], "base", f"index of {release.suite}")[source.name]
        packed = self._downloads.blobs.path(digest).read_bytes()
        self._downloads.blobs.delete(digest)
        try:
            return lzma.LZMADecompressor().decompress(packed, max_length=MAX_INDEX_BYTES)
        except lzma.LZMAError as e:
            raise ReleaseRefused(release.suite, f"its index {place} cannot be unpacked: {e}") from e
