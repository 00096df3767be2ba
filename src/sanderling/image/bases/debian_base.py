"""A base from Debian's packages: one layer, made by us."""

from collections.abc import Iterator
from contextlib import contextmanager

from sanderling.image.bases.base import Base
from sanderling.image.debian.archive import DebianArchive
from sanderling.image.debian.lock import BaseLock
from sanderling.image.debian.rootfs import build_root
from sanderling.image.debian.versions import ARCHITECTURES
from sanderling.image.events import Log
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.sizes import packages_text
from sanderling.image.layers.store import LayerStore
from sanderling.image.layers.tree import Entry
from sanderling.oci import Platform


class DebianBase:
    """Debian and its Python, from *archive*."""

    def __init__(self, archive: DebianArchive, log: Log) -> None:
        self.archive, self.log = archive, log

    @property
    def python(self) -> Interpreter:
        """The Python of this version of Debian."""
        return self.archive.version.python

    @property
    def layer_count(self) -> int:
        """One."""
        return 1

    def make(self, platform: Platform, layers: LayerStore) -> Base:
        """Debian and Python for *platform*."""
        lock = self.archive.lock(ARCHITECTURES[str(platform)])
        processor = str(platform).removeprefix("linux/")
        title = f"Debian {lock.debian.number} and Python {self.python.version} for {processor}"
        self.log.say("base", f"{title}: {len(lock.packages)} packages, {lock.chosen}")

        @contextmanager
        def opened() -> Iterator[list[Entry]]:
            yield build_root(lock.packages, self.archive.fetch(lock), self.python.version)

        packages = packages_text((package.name, package.version, package.size_bytes) for package in lock.packages)
        made = layers.ensure("base", lock.identity(), title, opened, compiled=True, packages=packages)
        return Base((made,), record=_record(lock, platform), debian=lock)


def _record(lock: BaseLock, platform: Platform) -> dict[str, object]:
    return {
        "kind": "debian",
        "platform": str(platform),
        "release": lock.release,
        "architecture": lock.architecture,
        "madeAt": lock.made_at.isoformat(),
        "packages": [
            {"name": p.name, "version": p.version, "sha256": p.sha256, "filename": p.filename, "archive": p.archive}
            for p in lock.packages
        ],
    }
