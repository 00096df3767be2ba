"""Layers of the cache as root file systems, quickly: unpacked once, merged by hard links, the application bound on top.

    CACHE/gate/BOOT/layers/DIFF_ID/   an unpacked layer, as `sanderling.sandbox.unpack` leaves it
    CACHE/gate/BOOT/roots/KEY/        the merged layers below the application's: base, packages
    CACHE/gate/BOOT/uses/…            the application's layers, merged, while one build uses them
    CACHE/gate/BOOT/lock              held while any of these is made or thrown away

What changes from build to build, models and script, is in layers that have nothing
outside of the application's folder. So they are merged apart and bound over the
root of all other layers, which is kept: thousands of links that need not be made.

BOOT is this run of the machine: what was written before a power cut is not asked
to be whole, and nothing waits for the disk. Builds of one cache share all of it; a
root in use is locked by whoever uses it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid
from sanderling.image.layout import DamagedLayer
from sanderling.image.recipe import APP_ROOT
from sanderling.oci import Digest, DigestMismatch, ImageConfig, Manifest
from sanderling.sandbox.rootfs import build_rootfs
from sanderling.sandbox.unpack import unpack_layer

KEPT_BYTES = 6 << 30
KEPT_ROOTS = 4
_AT_ONCE = 2
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Laid:
    """A root, and what is to be seen at the application's folder in it (None: it is in the root)."""

    root: Path
    application: Path | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    digest: Digest
    media_type: str
    diff_id: Digest
    folder: Path


class Roots:
    """Makes roots below *cache* of layers in *blobs*."""

    def __init__(self, cache: Path, blobs: FileBlobs) -> None:
        self._everything = cache / "gate"
        self._folder = self._everything / _boot()
        self._blobs = blobs

    @contextmanager
    def opened(self, manifest: Manifest, config: ImageConfig) -> Iterator[Laid]:
        """The image's files, for as long as the context; nobody may write to them.

        Raises DamagedLayer for a layer that is not what the config says, and
        Unavailable when the disk fails.
        """
        for name in ("layers", "roots", "uses"):
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        use = Path(tempfile.mkdtemp(dir=self._folder / "uses"))
        with ExitStack() as held:
            held.callback(shutil.rmtree, use, ignore_errors=True)
            with self._locked(self._folder / "lock", fcntl.LOCK_EX):
                held.enter_context(self._locked(use, fcntl.LOCK_SH))
                layers = self._unpack(manifest, config)
                lower, upper = split(layers)
                root = self._folder / "roots" / _key(lower)
                if not root.is_dir():
                    build_rootfs(lower, root, durable=False)
                os.utime(root)
                held.enter_context(self._locked(root, fcntl.LOCK_SH))
                if upper:
                    build_rootfs(upper, use / "root", durable=False)
                self._tidy()
            yield Laid(root, use / "root" / APP_ROOT if upper else None)

    def _unpack(self, manifest: Manifest, config: ImageConfig) -> list[Path]:
        if len(config.diff_ids) != len(manifest.layers):
            raise Invalid("config and manifest of the image differ in the number of layers")
        wanted = [
            _Wanted(layer.digest, layer.media_type, diff_id, self._folder / "layers" / diff_id.hex)
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        ]
        missing = {one.folder: one for one in wanted if not one.folder.is_dir()}
        largest_first = sorted(missing.values(), key=lambda one: -self._blobs.path(one.digest).stat().st_size)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="unpack") as threads:
            list(threads.map(self._unpack_one, largest_first))
        for one in wanted:
            os.utime(one.folder)  # when it was used last
        return [one.folder for one in wanted]

    def _unpack_one(self, one: _Wanted) -> None:
        try:
            unpack_layer(self._blobs.path(one.digest), one.media_type, one.diff_id, one.folder)
        except DigestMismatch as e:
            raise DamagedLayer(one.digest) from e

    def _tidy(self) -> None:
        """Throw away what nobody uses: earlier runs of the machine, roots and layers past the limits, oldest first."""
        for folder in self._everything.iterdir():
            if folder.is_dir() and folder.name not in (self._folder.name, "passed"):
                shutil.rmtree(folder, ignore_errors=True)
        for use in (self._folder / "uses").iterdir():
            self._remove_unless_used(use)  # a build that was killed
        for root in _newest_first(self._folder / "roots")[KEPT_ROOTS:]:
            self._remove_unless_used(root)
        left = KEPT_BYTES
        for layer in _newest_first(self._folder / "layers"):
            # A name with a dot is an unpacking that was killed: whoever unpacks holds the lock.
            left = left if layer.name.startswith(".") else left - _size_of(layer)
            if left < 0 or layer.name.startswith("."):
                shutil.rmtree(layer, ignore_errors=True)  # roots keep its files: they are links of their own

    def _remove_unless_used(self, folder: Path) -> None:
        try:
            with self._locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            return

    @contextmanager
    def _locked(self, path: Path, how: int) -> Iterator[None]:
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def split(layers: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the layers that make the root, and those above that have files of the application alone.

    All make the root when one below has something in the application's folder.
    """
    number = len(layers)
    while number and _is_of_application(layers[number - 1]):
        number -= 1
    lower, upper = list(layers[:number]), list(layers[number:])
    if any(os.path.lexists(layer / "fs" / APP_ROOT) or (layer / "fs" / "var").is_symlink() for layer in lower):
        return list(layers), []
    return lower, upper


def _is_of_application(layer: Path) -> bool:
    folder = layer / "fs"
    for part in APP_ROOT.split("/"):
        if [entry.name for entry in folder.iterdir()] != [part] or (folder / part).is_symlink():
            return False
        folder = folder / part
    try:
        listed = json.loads((layer / "layer.json").read_bytes())
    except (OSError, ValueError):
        return False
    return folder.is_dir() and not listed["whiteouts"] and not listed["opaque"]


def _key(layers: Sequence[Path]) -> str:
    return hashlib.sha256("\n".join(layer.name for layer in layers).encode()).hexdigest()


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()[:64] or "boot"
    except OSError:
        return "boot"


def _size_of(folder: Path) -> int:
    """The bytes below *folder*, remembered beside it: its files never change."""
    noted = folder / "size"
    try:
        return int(noted.read_text())
    except (OSError, ValueError):
        pass
    size = sum(os.lstat(Path(parent) / name).st_size for parent, _, names in os.walk(folder) for name in names)
    noted.write_text(str(size))
    return size
