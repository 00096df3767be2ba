"""Choose the base's packages, and keep the choice.

    CACHE/base/ARCHITECTURE.json           the lock of Debian 12 (see `lock`)
    CACHE/base/CODENAME-ARCHITECTURE.json  that of another version
    CACHE/base/seen.json                   suite -> date of the newest release file that was ever seen

A lock that is young enough is used as it is, with no network. An older one is
made anew; when no mirror answers, the old one serves and the log says so. A lock
that was given (`given`) is used whatever its age. Packages stay in the store of
downloads, so that a lock can be built again when the mirrors have gone on.
"""

import json
import lzma
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pysequoia import Cert

from sanderling.durable import write_durably
from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.image.debian.lock import LOCK_VERSION, BaseLock, LockInvalid
from sanderling.image.debian.mirrors import Mirrors
from sanderling.image.debian.packages import PackageIndex
from sanderling.image.debian.release import Release, ReleaseRefused, certificates, verify_release
from sanderling.image.debian.versions import BOOKWORM, DebianVersion, Suite
from sanderling.image.downloads import Downloads, Source
from sanderling.image.events import Log
from sanderling.image.keep import read_json
from sanderling.oci import Digest

LOCK_MAX_AGE = timedelta(hours=24)
MAX_RELEASE_BYTES = 4 << 20
MAX_INDEX_BYTES = 256 << 20

# Only programs and maintainer scripts need these; the files we take do not.
WITHOUT = ("debconf", "debconf-2.0", "cdebconf", "dpkg", "perl-base", "openssl", "mawk", "awk", "original-awk", "gawk")


class PackageGone(NotFound):
    """A package of a lock is in no store of ours, and the mirrors have it no more."""

    def __init__(self, name: str, version: str, made_at: datetime) -> None:
        of_then = f" of {made_at:%Y-%m-%d}" if made_at.timestamp() else ""
        super().__init__(
            f"Debian package {name} {version} of the base lock{of_then} is not in the cache, and the "
            "mirror has it no more; bring the cache that the lock was made with, or build without the lock"
        )
        self.name, self.version = name, version


class DebianArchive:
    """The packages of one *version* of Debian at *mirrors*, with locks and packages kept below *cache*."""

    def __init__(
        self,
        cache: Path,
        downloads: Downloads,
        mirrors: Mirrors,
        log: Log,
        *,
        version: DebianVersion = BOOKWORM,
        given: Mapping[str, BaseLock] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        certs: Callable[[Suite], list[Cert]] = certificates,
    ) -> None:
        self.version = version
        self._folder = cache / "base"
        self._downloads, self._mirrors, self._log = downloads, mirrors, log
        self._given = given
        self._now, self._certs = now, certs
        self._releases: dict[str, Release] = {}  # all architectures of a build go by one release file
        self._changing = threading.Lock()

    def lock(self, architecture: str) -> BaseLock:
        """The packages to use for *architecture* (Debian's word: amd64, arm64, armhf).

        Raises ReleaseRefused when what the mirror has cannot be trusted, and
        Unavailable when it does not answer and there is no older lock.
        """
        if self._given is not None:
            return self._from_given(self._given, architecture)
        path = self._path(architecture)
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
        write_durably(path, json.dumps(lock.to_json() | {"version": LOCK_VERSION}, indent=1).encode())
        return lock

    def fetch(self, lock: BaseLock) -> dict[str, Path]:
        """The package files of *lock*, by package name, their bytes checked; fetched when not in the cache.

        Raises PackageGone, DownloadFailed, WrongContent.
        """
        for package in lock.packages:
            self._drop_damaged(Digest(f"sha256:{package.sha256}"))
        sources = [
            Source(
                package.name,
                f"{self._mirrors.root(package.archive)}/{package.filename}",
                Digest.parse(f"sha256:{package.sha256}"),
                package.size_bytes,
            )
            for package in lock.packages
        ]
        try:
            digests = self._downloads.ensure_all(sources, "base", f"{len(sources)} Debian packages")
        except NotFound as e:
            stored = self._downloads.blobs
            absent = next((p for p in lock.packages if stored.find(Digest(f"sha256:{p.sha256}")) is None), None)
            if absent is None:
                raise
            gone = next((p for p in lock.packages if e.message.startswith(f"{p.name}:")), absent)
            raise PackageGone(gone.name, gone.version, lock.made_at) from e
        return {name: self._downloads.blobs.path(digest) for name, digest in digests.items()}

    def _drop_damaged(self, digest: Digest) -> None:
        """Remove a package from the store when its bytes are not what its name says: it is fetched anew."""
        blobs = self._downloads.blobs
        if blobs.find(digest) is not None and Digest.of(blobs.path(digest).read_bytes()) != digest:
            self._log.warn("base", f"the cached package {digest} is damaged and is fetched anew")
            blobs.delete(digest)

    def _path(self, architecture: str) -> Path:
        before = "" if self.version is BOOKWORM else f"{self.version.codename}-"
        return self._folder / f"{before}{architecture}.json"

    def _from_given(self, given: Mapping[str, BaseLock], architecture: str) -> BaseLock:
        lock = given.get(architecture)
        if lock is None:
            known = ", ".join(sorted(given))
            raise LockInvalid("the base lock", f"it is for {known}, and {architecture} is wanted; make it for both")
        return lock

    def _read(self, path: Path, architecture: str) -> BaseLock | None:
        data = read_json(path)
        if data is None or data.get("version") != LOCK_VERSION:
            return None
        try:
            lock = BaseLock.from_json(data)
        except Invalid:
            lock = None
        if lock is None or (lock.architecture, lock.release) != (architecture, self.version.codename):
            self._log.warn("base", f"the lock {path.name} in the cache cannot be read and is made anew")
            return None
        return lock

    def _make(self, architecture: str, kept: BaseLock | None) -> BaseLock:
        self._log.say("base", f"reading the package index of Debian {self.version.number} for {architecture}")
        index = PackageIndex()
        dates: dict[str, str] = {}
        for suite in self.version.suites:
            release = self._release(suite, kept)
            dates[suite.name] = release.date.isoformat()
            index.add(self._index(release, suite, architecture), suite.archive)
        packages = tuple(index.closure(self.version.wanted, WITHOUT))
        return BaseLock(architecture, self._now(), packages, dates, self.version.codename)

    def _release(self, suite: Suite, kept: BaseLock | None) -> Release:
        with self._changing:
            if suite.name in self._releases:
                return self._releases[suite.name]
            seen = read_json(self._folder / "seen.json") or {}
            known = (seen.get(suite.name), kept.dates.get(suite.name) if kept else None)
            before = max((date for text in known if (date := _moment(text)) is not None), default=None)
            url = f"{self._mirrors.root(suite.archive)}/dists/{suite.name}/InRelease"
            raw = self._downloads.read(url, name=f"Debian {suite.name} InRelease", limit=MAX_RELEASE_BYTES)
            release = verify_release(raw, suite=suite, certs=self._certs(suite), now=self._now(), not_before=before)
            if before is None or release.date > before:
                seen[suite.name] = release.date.isoformat()
                write_durably(self._folder / "seen.json", json.dumps(seen, indent=1, sort_keys=True).encode())
            self._releases[suite.name] = release
            return release

    def _index(self, release: Release, suite: Suite, architecture: str) -> bytes:
        place = f"main/binary-{architecture}/Packages.xz"
        if place not in release.indexes:
            raise Invalid(f"Debian {release.suite} has no packages for {architecture}")
        sha256, size = release.indexes[place]
        if size > MAX_INDEX_BYTES:
            raise ReleaseRefused(release.suite, f"its index {place} claims {size} bytes")
        root = f"{self._mirrors.root(suite.archive)}/dists/{release.suite}"
        # By its hash an index stays there for a while when a newer one comes; some mirrors have it by name alone.
        urls = [f"{root}/{place}"]
        if release.has_by_hash:
            urls.insert(0, f"{root}/main/binary-{architecture}/by-hash/SHA256/{sha256}")
        name = f"{release.suite} {architecture} index"
        packed = self._read_index([Source(name, url, Digest.parse(f"sha256:{sha256}"), size) for url in urls])
        unpacker = lzma.LZMADecompressor()
        try:
            text = unpacker.decompress(packed, max_length=MAX_INDEX_BYTES)
        except lzma.LZMAError as e:
            raise ReleaseRefused(release.suite, f"its index {place} cannot be unpacked: {e}") from e
        if not unpacker.eof or unpacker.unused_data:
            raise ReleaseRefused(release.suite, f"its index {place} is cut, or unpacks to more than {MAX_INDEX_BYTES}")
        return text

    def _read_index(self, sources: list[Source]) -> bytes:
        """The bytes of the first of *sources* that is there. They are not kept: the next release has others."""
        blobs = self._downloads.blobs
        error: NotFound | None = None
        for source in (*sources, sources[-1]):  # the last once more: another build may have been done with it first
            try:
                digest = self._downloads.ensure_all([source], "base", source.name)[source.name]
                packed = blobs.path(digest).read_bytes()
                blobs.delete(digest)
                return packed
            except NotFound as e:
                error = e
            except FileNotFoundError:
                continue
        raise error or Unavailable(f"{sources[0].name}: other builds take it away; build again")


def _moment(text: object) -> datetime | None:
    """The time that *text* is, when it is one with its zone."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
