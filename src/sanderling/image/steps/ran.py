"""The layer of a RUN: done in an engine, then written as our layers are.

Sorted, times 0, without what engines leave of their own. The same command on another
day may still give other files: what it fetches has changed.
"""

import asyncio
import io
import json
import secrets
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from sanderling.blobs import FileBlobs
from sanderling.dockerfile import Run
from sanderling.errors import SanderlingError, Unavailable
from sanderling.image.events import Log
from sanderling.image.layers.layer_file import Layer
from sanderling.image.layers.tree import Entry, Member
from sanderling.image.local.engine import Engine
from sanderling.image.steps.archives import inside
from sanderling.image.steps.engine import RunFailed, run_in
from sanderling.image.steps.image_tree import ImageTree
from sanderling.oci import Descriptor, Digest, Manifest, Platform, canonical_json, media_types

# Engines mount these over the image, and leave the places that they made for it.
_ENGINES_OWN = (".dockerenv", "run/.containerenv", "etc/mtab", "dev", "proc", "sys")
_MOUNTED_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
_CAPABILITY = "SCHILY.xattr.security.capability"
_PYC_HEAD = 16


def ran(
    step: Run,
    platform: Platform,
    user: str,
    layers: Sequence[Layer],
    blobs: FileBlobs,
    tree: ImageTree,
    engine: Engine,
    log: Log,
    held: ExitStack,
) -> list[Entry]:
    """The entries of the layer that *step* makes upon *layers*; they can be read until *held* is closed.

    Raises DockerfileInvalid when the command fails, Unavailable when the engine does.
    """
    name = f"localhost/sanderling-steps:{secrets.token_hex(8)}"
    folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="steps-", dir=blobs.root.parent)))
    archive, saved = folder / "before.tar", folder / "after.tar"
    program = Path(engine.program).name
    log.say("steps", f"{step.at.file}, line {step.at.line}: in {program}: {step.at.text[:200]}")
    try:
        _write_archive(step, platform, user, layers, blobs, archive, name)
        run_in(engine, archive, name, step.command, user, saved, lambda line: log.say("run", line))
    except RunFailed as e:
        raise step.at.refuse(f"RUN: {e.message}") from e
    except SanderlingError as e:
        raise Unavailable(f"{step.at.file}, line {step.at.line}: RUN: {e.message}") from e
    archive.unlink()
    try:
        return _entries(step, saved, len(layers), tree, log, held)
    except (tarfile.TarError, OSError, ValueError, KeyError, IndexError) as e:
        raise Unavailable(f"what {program} saved cannot be read: {e}") from e


def _write_archive(
    step: Run,
    platform: Platform,
    user: str,
    layers: Sequence[Layer],
    blobs: FileBlobs,
    archive: Path,
    name: str,
) -> None:
    """The image so far, whose config says what is run."""
    # They bring the HTTP client, which other builds need not wait for.
    from sanderling.image.assembly import Assembled
    from sanderling.image.layout import publish
    from sanderling.transfer.places import DockerArchivePlace

    raw = canonical_json(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            **({"variant": platform.variant} if platform.variant else {}),
            "config": {
                "Entrypoint": list(step.command),
                "Env": [f"{name}={value}" for name, value in sorted(step.variables.items())],
                "User": user,
                "WorkingDir": step.workdir,
            },
            "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
        }
    )
    config = Descriptor(media_types.OCI_CONFIG, blobs.put(raw), len(raw))
    described = [Descriptor(layer.media_type, Digest(layer.digest), layer.size_bytes) for layer in layers]
    manifest = Manifest.build(config, described, {})
    blobs.put(manifest.raw)
    try:
        image = Assembled(manifest.descriptor(platform), (manifest,), None)
        asyncio.run(publish(image, blobs, DockerArchivePlace(archive), name))
    finally:
        for digest in (config.digest, manifest.digest):
            blobs.delete(digest)


def _entries(step: Run, saved: Path, below: int, tree: ImageTree, log: Log, held: ExitStack) -> list[Entry]:
    """What the layer above the *below* first of the docker-archive *saved* holds."""
    archive = held.enter_context(tarfile.open(saved, mode="r:"))  # noqa: SIM115 - held closes it
    listing = archive.extractfile("manifest.json")
    assert listing is not None
    names = json.loads(listing.read())[0]["Layers"]
    if len(names) == below:
        return []
    if len(names) != below + 1:
        raise ValueError(f"{len(names)} layers, and {below + 1} are expected")
    layer = archive.extractfile(archive.getmember(names[-1]))
    assert layer is not None
    tar = held.enter_context(tarfile.open(fileobj=layer, mode="r:*"))  # noqa: SIM115 - held closes it
    found = {entry.path: entry for entry in _normal(step, tar, log)}
    for path in list(found):
        if path.rpartition("/")[0] not in found:  # engines name the folders above; what is not named is as it was
            for parent in tree.folders(path, 0, 0):
                found.setdefault(parent.path, parent)
    return [_with_mended_times(entry, found) for entry in found.values()]


def _normal(step: Run, tar: tarfile.TarFile, log: Log) -> Iterator[Entry]:
    for info in tar:
        path = info.name.removeprefix("./").strip("/")
        if path in ("", ".") or _is_engines_own(path, info):
            continue
        entry = Entry(inside(path, "RUN"), "file", info.mode & 0o7777, owner=info.uid, group=info.gid)
        if _CAPABILITY in info.pax_headers:
            log.warn("steps", f"{step.at.file}, line {step.at.line}: /{path} loses its capabilities (setcap)")
        if info.isdir():
            yield replace(entry, kind="folder")
        elif info.issym():
            yield replace(entry, kind="link", mode=0o777, target=info.linkname)
        elif info.isreg():
            yield replace(entry, content=_member(tar, info))
        elif info.islnk():
            real = tar.getmember(info.linkname)
            yield replace(entry, mode=real.mode & 0o7777, content=_member(tar, real))
        else:
            log.warn("steps", f"{step.at.file}, line {step.at.line}: /{path} is a device or a pipe, and is left out")


def _is_engines_own(path: str, info: tarfile.TarInfo) -> bool:
    if any(path == own or path.startswith(f"{own}/") for own in _ENGINES_OWN):
        return True
    return path in _MOUNTED_FILES and info.isreg() and info.size == 0


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    return Member(lambda: cast(IO[bytes], tar.extractfile(info)), info.size, info.chksum)


def _with_mended_times(entry: Entry, found: dict[str, Entry]) -> Entry:
    """Bytecode names the time of its source, which is 0 now; else it would count as stale at each start."""
    folder, _, name = entry.path.rpartition("/")
    content = entry.content
    if not name.endswith(".pyc") or not folder.endswith("/__pycache__") or not isinstance(content, Member):
        return entry
    if f"{folder.removesuffix('/__pycache__')}/{name.split('.')[0]}.py" not in found:
        return entry
    member = content

    def opened() -> IO[bytes]:
        with member.open() as file:
            data = file.read()
        # PEP 552: magic, flags, then the source's time where the flags are 0.
        is_timed = len(data) >= _PYC_HEAD and data[4:8] == bytes(4)
        return io.BytesIO(data[:8] + bytes(4) + data[12:] if is_timed else data)

    return replace(entry, content=Member(opened, member.size_bytes, member.crc32))
