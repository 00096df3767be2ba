"""The choice of a base's packages, as a value and as a file that can be handed over.

    {"format": "sanderling-base-lock", "version": 1, "locks": [
      {"release": "bookworm", "architecture": "amd64", "made_at": RFC 3339, "dates": {SUITE: RFC 3339},
       "packages": [{"name", "version", "filename", "sha256", "size_bytes", "depends", "control", "archive"}]}]}

A lock says of each package what its bytes are, so whoever gives a lock says what
is in the base; Debian's signatures were checked when it was made.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sanderling.errors import Invalid
from sanderling.image.debian.packages import Package
from sanderling.image.debian.versions import BOOKWORM, VERSIONS, DebianVersion

FORMAT = "sanderling-base-lock"
LOCK_VERSION = 1
MAX_FILE_BYTES = 16 << 20
MAX_PACKAGES = 2000
_MAX_CONTROL = 64 << 10
_MAX_PACKAGE_BYTES = 4 << 30

# Debian policy 5.6.1, 5.6.12; a file is below the mirror's root.
_FORMS = {
    "name": re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}"),
    "version": re.compile(r"[0-9A-Za-z.+:~-]{1,128}"),
    "filename": re.compile(r"(?:[A-Za-z0-9_+~%-][A-Za-z0-9._+~:%-]*/){1,8}[A-Za-z0-9_+~%-][A-Za-z0-9._+~:%-]*"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "archive": re.compile(r"main|security"),
}


class LockInvalid(Invalid):
    """The base lock in *file* cannot be used."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file} is no base lock that can be used: {reason}")
        self.file, self.reason = file, reason


@dataclass(frozen=True, slots=True)
class BaseLock:
    """The packages of the base for one Debian architecture."""

    architecture: str
    made_at: datetime
    packages: tuple[Package, ...]
    dates: dict[str, str]  # suite -> date of its release file
    release: str = BOOKWORM.codename

    def identity(self) -> list[list[str]]:
        """What the base's bytes depend on."""
        return [[package.name, package.version, package.sha256] for package in self.packages]

    @property
    def debian(self) -> DebianVersion:
        """The version of Debian that it is of."""
        return next(version for version in VERSIONS if version.codename == self.release)

    @property
    def chosen(self) -> str:
        """When its packages were chosen, for people; an image's lock does not say."""
        return f"as chosen at {self.made_at:%Y-%m-%d %H:%M} UTC" if self.made_at.timestamp() else "as locked"

    def to_json(self) -> dict[str, Any]:
        """One of the locks of the document at the top of this module."""
        return asdict(self) | {"made_at": self.made_at.isoformat()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], file: str = "the lock") -> "BaseLock":
        """Read what `to_json` wrote. Raises LockInvalid."""
        try:
            made_at = datetime.fromisoformat(data["made_at"])
            dates = {str(suite): datetime.fromisoformat(date).isoformat() for suite, date in data["dates"].items()}
            listed = list(data["packages"])
            release = str(data.get("release") or BOOKWORM.codename)
            architecture = str(data["architecture"])
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise LockInvalid(file, f"{type(e).__name__}: {e}") from e
        if made_at.tzinfo is None or not re.fullmatch(r"[a-z0-9]{2,16}", architecture):
            raise LockInvalid(file, "its time has no zone, or its architecture is none")
        if release not in {version.codename for version in VERSIONS}:
            known = " and ".join(version.codename for version in VERSIONS)
            raise LockInvalid(file, f"it is for Debian {release[:40]!r}, and bases are made of {known}")
        if not 0 < len(listed) <= MAX_PACKAGES:
            raise LockInvalid(file, f"it has {len(listed)} packages")
        packages = tuple(_package(item, file) for item in listed)
        names = {package.name for package in packages}
        if len(names) != len(packages):
            raise LockInvalid(file, "it has a package twice")
        lock = cls(architecture, made_at, tuple(sorted(packages, key=lambda p: p.name)), dates, release)
        missing = [name for name in lock.debian.wanted if name not in names]
        if missing:
            raise LockInvalid(file, f"it lacks what every base needs: {', '.join(missing)}")
        return lock


def write_locks(locks: Iterable[BaseLock]) -> bytes:
    """The file that holds *locks*, each for another architecture."""
    listed = sorted(locks, key=lambda lock: (lock.release, lock.architecture))
    document = {"format": FORMAT, "version": LOCK_VERSION, "locks": [lock.to_json() for lock in listed]}
    return json.dumps(document, indent=1).encode() + b"\n"


def read_locks(raw: bytes, file: str) -> dict[str, BaseLock]:
    """The locks by architecture that *raw* holds; *file* is what messages call it. Raises LockInvalid."""
    if len(raw) > MAX_FILE_BYTES:
        raise LockInvalid(file, f"it has {len(raw)} bytes; {MAX_FILE_BYTES} is the limit")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise LockInvalid(file, "it is no JSON") from e
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("locks"), list):
        raise LockInvalid(file, f"it does not say that it is a {FORMAT}")
    if data.get("version") != LOCK_VERSION:
        raise LockInvalid(file, f"it is of version {data.get('version')!r}, and {LOCK_VERSION} can be read")
    locks: dict[str, BaseLock] = {}
    for item in data["locks"]:
        lock = BaseLock.from_json(item if isinstance(item, dict) else {}, file)
        if locks.setdefault(lock.architecture, lock) is not lock:
            raise LockInvalid(file, f"it has two locks for {lock.architecture}")
    if len({lock.release for lock in locks.values()}) != 1:
        raise LockInvalid(file, "its locks are not all of one version of Debian" if locks else "it holds no lock")
    return locks


def _package(item: object, file: str) -> Package:
    fields = item if isinstance(item, dict) else {}
    size = fields.get("size_bytes")
    for key, form in _FORMS.items():
        value = fields.get(key)
        if not isinstance(value, str) or not form.fullmatch(value):
            raise LockInvalid(file, f"the package {str(fields.get('name'))[:80]!r} has no {key} as Debian's have")
    control, depends = fields.get("control"), fields.get("depends")
    is_text = all(isinstance(text, str) and len(text) <= _MAX_CONTROL for text in (control, depends))
    if not is_text or not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= _MAX_PACKAGE_BYTES:
        raise LockInvalid(file, f"the package {fields['name']!r} has no size, or no control text")
    names = ("name", "version", "filename", "sha256", "size_bytes", "depends", "control", "archive")
    return Package(**{name: fields[name] for name in names})
