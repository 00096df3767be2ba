"""What `docker save` writes and `docker load` reads, as a place.

Two kinds are read: the older (`<id>/layer.tar`, `<hex>.json`, manifest.json) and
that of Docker 25 and later (an OCI layout with a manifest.json beside it). What
is written is the later kind, which older Dockers load too: layers are plain
tars, named by their diffIDs, for one platform.

    manifest.json   [{"Config": PATH, "RepoTags": ["name:tag"], "Layers": [PATH, ...]}]

An older archive has no manifests: one is made, of the config as it is and the
layers as they are, so the same archive gives the same digest.
Sources: Docker's image specification 1.2 and its `image/tarexport`.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sanderling.errors import Invalid, NotFound, SanderlingError, Unavailable
from sanderling.oci import (
    Descriptor,
    Digest,
    DigestMismatch,
    Hasher,
    ImageConfig,
    Index,
    Manifest,
    Reference,
    canonical_json,
    media_types,
    parse_manifest,
)
from sanderling.transfer.files import to_its_end
from sanderling.transfer.places.layout import CONTAINERD_NAME, REF_NAME
from sanderling.transfer.places.oci_archive import staging_of
from sanderling.transfer.places.port import OpenFrom, Told
from sanderling.transfer.places.tar_content import LazyTar, TarContent, compression_of, unpack_gzip
from sanderling.transfer.places.tar_index import TarFile
from sanderling.transfer.places.tar_write import write_tar

_MAX_IMAGES = 10_000
_MAX_DEPTH = 4
_HASH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Image:
    names: tuple[str, ...]
    manifest: Manifest


@dataclass(slots=True)
class _Archive:
    """What an archive holds: images, and where the content of each is in the tar."""

    images: list[_Image]
    content: dict[Digest, TarFile]


class DockerArchivePlace:
    """One tar file, read or written."""

    only_platform = True

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, f"docker-archive:{path}"
        self._tar = LazyTar(path)
        self._archive: _Archive | None = None
        self._staged = staging_of(path, self.name)
        self._tagged: dict[str, Manifest] = {}

    async def resolve(self, reference: str) -> Descriptor:
        """Return the image of this name (`name:tag`), or number (`@0`); the only one when it is empty."""
        images = (await self._read()).images
        if not reference and len(images) == 1:
            return images[0].manifest.descriptor()
        if reference[:1] == "@" and reference[1:].isdigit() and len(reference) < 7 and int(reference[1:]) < len(images):
            return images[int(reference[1:])].manifest.descriptor()
        for image in images:
            if reference == image.manifest.digest or (reference and _is_named(reference, image.names)):
                return image.manifest.descriptor()
        have = ", ".join(name for image in images[:10] for name in image.names[:3]) or "none with a name"
        if not reference:
            raise Invalid(f"{self.name} holds {len(images)} images; name one of them: {have}")
        raise NotFound(f"{self.name} holds no image {reference!r}; it has {have}")

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the manifest."""
        for image in (await self._read()).images:
            if image.manifest.digest == descriptor.digest:
                return image.manifest.raw
        raise NotFound(f"{self.name} lacks the manifest {descriptor.digest}")

    async def open_blob(self, descriptor: Descriptor, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a config or layer from the tar."""
        entry = (await self._read()).content.get(descriptor.digest)
        if entry is None:
            raise NotFound(f"{self.name} lacks the content {descriptor.digest}")
        async for piece in (await self._tar.get()).stream(entry, start):
            yield piece

    async def tags(self) -> list[str]:
        """Return the names of all images."""
        return sorted({name for image in (await self._read()).images for name in image.names})

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """There are none in such an archive."""
        return []

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether it is in the folder beside the archive: the archive itself is replaced."""
        return await self._staged.has_blob(descriptor)

    async def push_blob(self, descriptor: Descriptor, open_from: OpenFrom, mount_from: str | None, told: Told) -> int:
        """Bring the blob into the folder beside the archive."""
        return await self._staged.push_blob(descriptor, open_from, mount_from, told)

    async def push_manifest(self, descriptor: Descriptor, raw: bytes, tag: str | None = None) -> None:
        """Note the image under its name (`name:tag`)."""
        parsed = parse_manifest(raw, descriptor.media_type)
        if not isinstance(parsed, Manifest) or parsed.config.media_type not in media_types.CONFIGS:
            raise Invalid(f"{self.name} holds images for one platform each, and {descriptor.digest} is none")
        for layer in parsed.layers:
            if media_types.LAYER_COMPRESSION.get(layer.media_type, "other") not in (None, "gzip"):
                raise Invalid(f"{self.name} cannot hold layers of the type {layer.media_type}; use oci-archive instead")
        self._tagged[tag or ""] = parsed

    async def finish(self) -> dict[str, Digest]:
        """Unpack the layers, make the tar, and remove the folder."""
        return await to_its_end(self._pack)

    async def aclose(self) -> None:
        """Let go of the tar; the folder stays, for a later run to take up."""
        self._tar.close()

    async def _read(self) -> _Archive:
        if self._archive is None:
            content = await self._tar.get()
            self._archive = await asyncio.to_thread(_read_archive, content, self.name)
        return self._archive

    def _pack(self) -> dict[str, Digest]:
        folder = self._staged.folder
        blobs: dict[str, Path | bytes] = {}
        digests: dict[str, Digest] = {}
        entries: list[dict[str, Any]] = []
        listed: list[Descriptor] = []
        plain = folder / "plain"
        try:
            plain.mkdir(parents=True, exist_ok=True)
            for tag, manifest in sorted(self._tagged.items()):
                made = self._with_plain_layers(manifest, plain, blobs)
                digests[tag] = made.digest
                config = _path(made.config.digest)
                blobs[config] = folder / config
                blobs[_path(made.digest)] = made.raw
                layers = [_path(layer.digest) for layer in made.layers]
                entries.append({"Config": config, "RepoTags": [tag] if tag else None, "Layers": layers})
                names = {CONTAINERD_NAME: _full(tag), REF_NAME: _full(tag).rpartition(":")[2]} if tag else {}
                listed.append(replace(made.descriptor(), annotations=names))
            documents = {
                "oci-layout": canonical_json({"imageLayoutVersion": "1.0.0"}),
                "index.json": Index.build(listed).raw,
                "manifest.json": canonical_json(entries),
            }
            write_tar(self.path, [*documents.items(), *sorted(blobs.items(), key=lambda one: one[0])])
        except OSError as e:
            raise Unavailable(f"{e.filename or folder} cannot be written: {e.strerror or e}") from e
        finally:
            shutil.rmtree(plain, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        return digests

    def _with_plain_layers(self, manifest: Manifest, plain: Path, blobs: dict[str, Path | bytes]) -> Manifest:
        """Return the manifest with its layers unpacked, as they are in *blobs* now; itself when they were."""
        folder = self._staged.folder
        config = ImageConfig.parse((folder / _path(manifest.config.digest)).read_bytes())
        if len(config.diff_ids) != len(manifest.layers):
            raise Invalid(f"image {manifest.digest}: its config and manifest differ in the number of layers")
        layers: list[Descriptor] = []
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            source = folder / _path(layer.digest)
            if media_types.LAYER_COMPRESSION[layer.media_type] is None:
                blobs[_path(layer.digest)] = source
                layers.append(layer)
                continue
            target = plain / diff_id.hex
            if not target.exists():
                _unpack(source, target, diff_id)
            blobs[_path(diff_id)] = target
            layers.append(Descriptor(media_types.OCI_LAYER, diff_id, target.stat().st_size))
        if tuple(layers) == manifest.layers:
            return manifest
        return Manifest.build(replace(manifest.config, media_type=media_types.OCI_CONFIG), layers, manifest.annotations)


def _unpack(source: Path, target: Path, diff_id: Digest) -> None:
    with source.open("rb") as packed, target.open("w+b") as file:
        unpack_gzip(packed, file, f"the layer {source.name[:12]}")
        file.seek(0)
        hasher = Hasher(diff_id.algorithm)
        while piece := file.read(_HASH_BYTES):
            hasher.update(piece)
    if hasher.digest() != diff_id:
        target.unlink()
        raise DigestMismatch(expected=diff_id, actual=hasher.digest())


def _read_archive(tar: TarContent, name: str) -> _Archive:
    raw = tar.read("manifest.json", "the file manifest.json: docker save did not write it, or a Docker before 1.10")
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise Invalid(f"{name}: manifest.json is not valid JSON") from e
    if not isinstance(entries, list) or not 0 < len(entries) <= _MAX_IMAGES:
        raise Invalid(f"{name}: manifest.json is no list of images")
    archive = _Archive([], {})
    kept = _manifests_by_config(tar)
    for entry in entries:
        config_path, layers = (entry.get("Config"), entry.get("Layers")) if isinstance(entry, dict) else (None, None)
        names = (entry.get("RepoTags") or []) if isinstance(entry, dict) else []
        if not isinstance(config_path, str) or not _are_texts(layers or []) or not _are_texts(names):
            raise Invalid(f"{name}: manifest.json has an image without Config and Layers")
        manifest = _manifest(tar, archive.content, kept, config_path, layers or [], name)
        archive.images.append(_Image(tuple(names), manifest))
    return archive


def _manifest(
    tar: TarContent,
    content: dict[Digest, TarFile],
    kept: dict[Digest, Manifest],
    config_path: str,
    layer_paths: list[str],
    name: str,
) -> Manifest:
    raw = tar.read(config_path, f"the config {config_path[:100]}")
    config = ImageConfig.parse(raw)
    entry = tar.find(config_path)
    assert entry is not None
    content[config.digest] = entry
    whole = kept.get(config.digest)
    if whole is not None:
        found = {layer.digest: tar.find(_path(layer.digest)) for layer in whole.layers}
        present = {digest: entry for digest, entry in found.items() if entry is not None}
        if len(present) == len(found):
            content.update(present)
            return whole
    if len(layer_paths) != len(config.diff_ids):
        raise Invalid(f"{name}: config and manifest.json differ in the number of layers")
    layers = []
    for path, diff_id in zip(layer_paths, config.diff_ids, strict=True):
        entry = tar.find(path)
        if entry is None:
            raise NotFound(f"{name} lacks the layer {path[:100]}")
        layers.append(_layer(tar, entry, diff_id, path))
        content[layers[-1].digest] = entry
    return Manifest.build(Descriptor(media_types.OCI_CONFIG, config.digest, len(raw)), layers)


def _layer(tar: TarContent, entry: TarFile, diff_id: Digest, path: str) -> Descriptor:
    """Describe a layer as it is: plain, its diffID is its digest; packed, its digest is made."""
    kind = compression_of(tar.piece(entry, 6))
    if kind is None:
        return Descriptor(media_types.OCI_LAYER, diff_id, entry.size)
    if kind not in ("gzip", "zstd"):
        raise Invalid(f"the layer {path[:100]} is compressed with {kind}, which no image may be")
    hasher = Hasher()
    for start in range(0, entry.size, _HASH_BYTES):
        hasher.update(tar.piece(TarFile(entry.offset + start, entry.size - start), _HASH_BYTES))
    media_type = media_types.OCI_LAYER_GZIP if kind == "gzip" else media_types.OCI_LAYER_ZSTD
    return Descriptor(media_type, hasher.digest(), entry.size)


def _manifests_by_config(tar: TarContent) -> dict[Digest, Manifest]:
    """Return the manifests of the OCI layout that later Dockers write too, by the digest of their config."""
    found: dict[Digest, Manifest] = {}
    seen: set[Digest] = set()

    def visit(index: Index, depth: int) -> None:
        for one in index.manifests:
            if one.digest in seen or len(seen) >= _MAX_IMAGES:
                continue
            seen.add(one.digest)
            with suppress(SanderlingError):  # it is an addition; manifest.json is what counts
                raw = tar.read(_path(one.digest), f"the manifest {one.digest}")
                one.digest.verify(raw)
                parsed = parse_manifest(raw, one.media_type)
                if isinstance(parsed, Manifest):
                    found.setdefault(parsed.config.digest, parsed)
                elif depth < _MAX_DEPTH:
                    visit(parsed, depth + 1)

    with suppress(SanderlingError):
        visit(Index.parse(tar.read("index.json", "index.json")), 0)
    return found


def _is_named(reference: str, names: tuple[str, ...]) -> bool:
    return reference in names or _full(reference) in {_full(name) for name in names}


def _full(name: str) -> str:
    try:
        return str(Reference.parse(name))
    except Invalid:
        return name


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(one, str) for one in values)


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
