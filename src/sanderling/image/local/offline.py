"""A folder with all that a build fetches, to be carried to a machine that has no network.

    DIR/prefetch.json     {"format", "version", "platforms", "python", "files": [{"path", "sha256", "sizeBytes"}]}
    DIR/base.lock.json    the base's packages (see `sanderling.image.debian.lock`)
    DIR/wheels/*.whl      a wheelhouse, as pip's --find-links reads it too
    DIR/debian/*.deb      the base's packages

prefetch.json is written last: without it the folder is not used. Every file is
checked against it before it is used, so that a damaged stick is named.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanderling.blobs import FileBlobs
from sanderling.durable import write_durably
from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.image.events import Log, Progress
from sanderling.image.figures import count_text
from sanderling.image.keep import read_json
from sanderling.image.layers.tree import safe_path
from sanderling.oci import Digest, DigestMismatch

FORMAT = "sanderling-offline"
VERSION = 1
LISTING, BASE_LOCK, WHEELS, DEBIAN = "prefetch.json", "base.lock.json", "wheels", "debian"
MAX_FILES = 20_000


class OfflineFolderInvalid(Invalid):
    """The *folder* cannot be built from."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"the folder {folder} cannot be built from: {reason}; fill it with 'sanderling image prefetch'"
        )
        self.folder, self.reason = folder, reason


@dataclass(frozen=True, slots=True)
class CarriedFile:
    """One file of the folder."""

    path: str
    digest: Digest
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """As prefetch.json has it."""
        return {"path": self.path, "sha256": self.digest.hex, "sizeBytes": self.size_bytes}


@dataclass(frozen=True, slots=True)
class OfflineFolder:
    """A folder that `write` filled."""

    folder: Path
    platforms: tuple[str, ...]
    python: str
    files: tuple[CarriedFile, ...]

    @property
    def wheelhouse(self) -> Path:
        """The folder of wheels."""
        return self.folder / WHEELS

    @property
    def base_lock(self) -> Path:
        """The lock of the base's packages."""
        return self.folder / BASE_LOCK

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)

    def bring_in(self, blobs: FileBlobs, log: Log) -> None:
        """Copy the base's packages into the cache *blobs*, verified; those that are there are not read.

        Raises OfflineFolderInvalid for a file that is missing or is not what the listing says.
        """
        missing = [f for f in self.files if f.path.startswith(f"{DEBIAN}/") and blobs.find(f.digest) is None]
        if not missing:
            return
        progress = Progress(log, "base", str(self.folder), sum(file.size_bytes for file in missing))
        for file in missing:
            try:
                blobs.put_file(self.folder / file.path, file.digest)
            except (OSError, DigestMismatch) as e:
                reason = "is damaged" if isinstance(e, DigestMismatch) else f"cannot be read: {e.strerror}"
                raise OfflineFolderInvalid(self.folder, f"{file.path} {reason}") from e
            progress.add(file.size_bytes)
        progress.finish()
        log.say("base", f"{count_text(len(missing), 'Debian package')} from {self.folder}")

    def check(self, platforms: Iterable[str]) -> None:
        """Refuse a folder that was filled for other platforms, and wheels that are not as they were.

        Raises OfflineFolderInvalid.
        """
        others = [platform for platform in platforms if platform not in self.platforms]
        if others:
            raise OfflineFolderInvalid(
                self.folder, f"it was filled for {', '.join(self.platforms)}, and not for {', '.join(others)}"
            )
        for file in self.files:
            if not file.path.startswith(f"{WHEELS}/"):
                continue
            try:
                with (self.folder / file.path).open("rb") as opened:
                    is_right = hashlib.file_digest(opened, "sha256").hexdigest() == file.digest.hex
            except OSError as e:
                raise OfflineFolderInvalid(self.folder, f"{file.path} cannot be read: {e.strerror}") from e
            if not is_right:
                raise OfflineFolderInvalid(self.folder, f"{file.path} is damaged")

    @classmethod
    def read(cls, folder: Path) -> "OfflineFolder":
        """Read the listing of *folder*. Raises NotFound, OfflineFolderInvalid."""
        if not folder.is_dir():
            raise NotFound(f"the folder {folder} is not there; fill one with 'sanderling image prefetch'")
        data = read_json(folder / LISTING)
        if data is None or data.get("format") != FORMAT:
            raise OfflineFolderInvalid(folder, f"it has no {LISTING}, so it was not filled to the end")
        if data.get("version") != VERSION:
            raise OfflineFolderInvalid(folder, f"its version is {data.get('version')!r}, and {VERSION} can be read")
        try:
            files = tuple(
                CarriedFile(
                    safe_path(str(item["path"]), LISTING),
                    Digest.parse(f"sha256:{item['sha256']}"),
                    int(item["sizeBytes"]),
                )
                for item in list(data["files"])[:MAX_FILES]
            )
            return cls(folder, tuple(map(str, data["platforms"])), str(data["python"]), files)
        except (KeyError, TypeError, ValueError) as e:
            raise OfflineFolderInvalid(folder, f"{LISTING} cannot be read: {type(e).__name__}: {e}") from e


def write(
    folder: Path, carried: Mapping[str, Path], base_lock: bytes, platforms: Sequence[str], python: str, log: Log
) -> OfflineFolder:
    """Fill *folder* with the files *carried* (path there: blob of the cache, called by its sha256) and the lock.

    Files of an earlier filling that are not wanted any more go. Raises Invalid for a
    folder that holds something else, Unavailable when it cannot be written.
    """
    _check_free(folder)
    listed = []
    progress = Progress(log, "write", str(folder), sum(path.stat().st_size for path in carried.values()))
    try:
        (folder / LISTING).unlink(missing_ok=True)
        for place, source in sorted(carried.items()):
            target = folder / safe_path(place, str(folder))
            digest = Digest.parse(f"sha256:{source.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            listed.append(CarriedFile(place, digest, source.stat().st_size))
            _copy(source, target)
            progress.add(listed[-1].size_bytes)
        _remove_others(folder, set(carried))
        write_durably(folder / BASE_LOCK, base_lock, 0o644)
        document = {
            "format": FORMAT,
            "version": VERSION,
            "platforms": list(platforms),
            "python": python,
            "files": [file.to_json() for file in listed],
        }
        write_durably(folder / LISTING, json.dumps(document, indent=1).encode() + b"\n", 0o644)
    except OSError as e:
        raise Unavailable(f"{e.filename or folder} cannot be written: {e.strerror or e}") from e
    progress.finish()
    return OfflineFolder(folder, tuple(platforms), python, tuple(listed))


def _check_free(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier filling."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise Invalid(f"{folder} is no folder; name another one")
    known = {LISTING, BASE_LOCK, WHEELS, DEBIAN}
    others = sorted(path.name for path in folder.iterdir() if path.name not in known and not path.name.startswith("."))
    if others:
        raise Invalid(f"{folder} holds {others[0]}, which prefetch did not put there; name an empty folder")


def _copy(source: Path, target: Path) -> None:
    """Copy, so that *target* is whole when it is there."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _remove_others(folder: Path, wanted: set[str]) -> None:
    for part in (WHEELS, DEBIAN):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for path in (folder / part).iterdir():
            if f"{part}/{path.name}" not in wanted and path.is_file():
                path.unlink()
