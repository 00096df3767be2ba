"""Layers of the cache as root file systems, quickly: each layer is unpacked once, a root is made of hard links.

    CACHE/gate/BOOT/layers/DIFF_ID/   an unpacked layer, as `sanderling.sandbox.unpack` leaves it
    CACHE/gate/BOOT/roots/…           a root while it is used
    CACHE/gate/BOOT/lock              held while either is made or thrown away

BOOT is this run of the machine: what was written before a power cut is not asked
to be whole, and nothing waits for the disk. Builds of one cache share all of it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, Unavailable
from sanderling.image.layout import DamagedLayer
from sanderling.oci import Digest, DigestMismatch, ImageConfig, Manifest
from sanderling.sandbox.rootfs import build_rootfs
from sanderling.sandbox.unpack import unpack_layer

KEPT_BYTES = 6 << 30
_AT_ONCE = 2
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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
    def opened(self, manifest: Manifest, config: ImageConfig) -> Iterator[Path]:
        """The image's root, for as long as the context; nobody may write to it.

        Raises DamagedLayer for a layer that is not what the config says, and
        Unavailable when the disk fails.
        """
        for name in ("layers", "roots"):
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=self._folder / "roots"))
        try:
            with self._locked():
                layers = self._unpack(manifest, config)
                build_rootfs(layers, place / "root", durable=False)
                self._tidy(layers)
            yield place / "root"
        finally:
            shutil.rmtree(place, ignore_errors=True)

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

    def _tidy(self, used: Sequence[Path]) -> None:
        """Throw away what earlier runs of the machine left, and the layers used longest ago past the limit."""
        for folder in self._everything.iterdir():
            if folder.is_dir() and folder.name not in (self._folder.name, "passed"):
                shutil.rmtree(folder, ignore_errors=True)
        found = sorted((self._folder / "layers").iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        left = KEPT_BYTES
        for folder in found:
            if folder.name.startswith("."):  # an unpacking that was killed: whoever unpacks holds the lock
                shutil.rmtree(folder, ignore_errors=True)
                continue
            left -= _size_of(folder)
            if left < 0:
                shutil.rmtree(folder, ignore_errors=True)  # roots in use keep their files: they are links of their own

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise Unavailable(f"the gate's folder cannot be written: {e.strerror}") from e
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


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
