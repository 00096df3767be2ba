"""Merges unpacked layers into one root file system per image, by hard links.

A layer is unpacked once, however many images have it; a root costs folders and
names only. Files in a root are never changed, only replaced: they are shared
with the layer and with other roots.

Meaning as in overlayfs, which image-spec 1.1 ("Layer Changesets") describes: a
whiteout hides what lower layers have, an opaque folder hides all below it, and
anything but a folder on a folder replaces it.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sanderling.durable import sync_folder
from sanderling.errors import Invalid, Unavailable

# Mount points of every sandbox, made in each root because the root is read-only.
MOUNT_POINTS = ("dev", "proc", "run", "sys", "tmp", "etc", "var")
_MAX_LINKS = 40


def build_rootfs(layers: Sequence[Path], target: Path, *, durable: bool = True) -> None:
    """Merge *layers* (lowest first, as `unpack_layer` left them) into *target*.

    *target* appears whole, and *durable* unless nobody wants it after a power
    cut, or not at all. Raises `Unavailable` when the disk fails.
    """
    aside = Path(tempfile.mkdtemp(prefix=".merge-", dir=target.parent))
    try:
        aside.chmod(0o755)
        for layer in layers:
            _hide(layer, aside)
            _merge(layer / "fs", aside)
        for name in MOUNT_POINTS:
            if not os.path.lexists(aside / name):
                (aside / name).mkdir(mode=0o755)
        if durable:
            os.sync()  # once per image: a root that is there after a power cut is whole
        aside.rename(target)
        if durable:
            sync_folder(target.parent)
    except OSError as e:
        raise Unavailable(f"the image cannot be laid out on disk: {e.strerror or e}") from e
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _hide(layer: Path, root: Path) -> None:
    try:
        listed = json.loads((layer / "layer.json").read_bytes())
    except (OSError, ValueError):
        listed = None
    if not isinstance(listed, dict):
        raise Unavailable(f"the unpacked layer {layer.name[:12]} is broken; it will be unpacked again")
    for name in listed["whiteouts"]:
        path = _beneath(root, name)
        if path is not None:
            _remove(path)
    for name in listed["opaque"]:
        path = _beneath(root, name)
        if path is not None and path.is_dir() and not path.is_symlink():
            for child in path.iterdir():
                _remove(child)


def _beneath(root: Path, name: str) -> Path | None:
    """Return *name* below *root*, or None when a link is on the way: a whiteout never follows one."""
    path = root
    for part in Path(name).parts[:-1]:
        path = path / part
        if path.is_symlink():
            return None
    return root / name


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _merge(source: Path, target: Path) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            path = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                if path.is_symlink() or not path.is_dir():
                    _remove(path)
                    path.mkdir()
                path.chmod(entry.stat(follow_symlinks=False).st_mode & 0o777)
                _merge(Path(entry.path), path)
            else:
                if os.path.lexists(path):
                    _remove(path)
                os.link(entry.path, path, follow_symlinks=False)


def resolve_inside(root: Path, name: str) -> str:
    """Return *name* with all links resolved as a process in *root* would see it, without a leading slash.

    Absolute links start at *root*, `..` stops there. What does not exist yet is
    taken as written. Raises `Invalid` for a loop of links.
    """
    todo = [part for part in reversed(name.split("/")) if part not in ("", ".")]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        path = root.joinpath(*done, part)
        if not path.is_symlink():
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise Invalid(f"{name!r} is a loop of links in the image")
        link = str(path.readlink())
        if link.startswith("/"):
            done = []
        todo.extend(part for part in reversed(link.split("/")) if part not in ("", "."))
    return "/".join(done)


def ensure_mount_point(root: Path, name: str, *, folder: bool) -> str:
    """Make sure that *name* can be mounted on in the read-only *root*; return the resolved path.

    Raises `Invalid` when something else is in the way.
    """
    resolved = resolve_inside(root, name)
    path = root / resolved
    try:
        if folder:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif not path.exists():
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.touch(mode=0o644)
    except OSError as e:
        raise Invalid(f"{name!r} cannot be mounted on in this image: {e.strerror or e}") from e
    return resolved
