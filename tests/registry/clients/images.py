"""Small images, made from nothing: as OCI layouts on disk, and as archives that `docker load` takes."""

import gzip
import hashlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, canonical_json, media_types

TAG = "org.opencontainers.image.ref.name"
LAYER_BYTES = 100_000


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar with *files*."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def some_layer() -> bytes:
    """Return a layer that no other image has."""
    return tar_of({"model.pkl": os.urandom(LAYER_BYTES)})


def config_of(layers: Sequence[bytes], architecture: str = "amd64") -> bytes:
    """Return the config of an image of these unpacked *layers*."""
    return canonical_json(
        {
            "os": "linux",
            "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in layers]},
            "config": {"Entrypoint": ["/bin/true"]},
        }
    )


class Layout:
    """An OCI layout in *folder* that grows (image-spec 1.1, "OCI Image Layout")."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._blobs = folder, folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        self._named: list[Descriptor] = []
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def keep(self, media_type: str, content: bytes) -> Descriptor:
        digest = Digest.of(content)
        (self._blobs / digest.hex).write_bytes(content)
        return Descriptor(media_type, digest, len(content))

    def image(self, *layers: bytes, architecture: str = "amd64") -> Manifest:
        """Keep an image; without *layers* it has one that no other has."""
        tars = layers or (some_layer(),)
        kept = [self.keep(media_types.OCI_LAYER_GZIP, gzip.compress(tar, 1, mtime=0)) for tar in tars]
        return self.manifest(config_of(tars, architecture), kept)

    def manifest(self, config: bytes, layers: Sequence[Descriptor]) -> Manifest:
        manifest = Manifest.build(self.keep(media_types.OCI_CONFIG, config), list(layers))
        self.keep(manifest.media_type, manifest.raw)
        return manifest

    def index(self, descriptors: Sequence[Descriptor]) -> Index:
        index = Index.build(list(descriptors))
        self.keep(index.media_type, index.raw)
        return index

    def tag(self, top: Manifest | Index, name: str = "1") -> str:
        """Name *top*; return what skopeo calls it."""
        self._named.append(Descriptor(top.media_type, top.digest, len(top.raw), {TAG: name}))
        (self.folder / "index.json").write_bytes(Index.build(self._named).raw)
        return f"oci:{self.folder}:{name}"

    def blobs(self) -> dict[str, bytes]:
        """Return all that is kept, by hex digest."""
        return blobs_of(self.folder)


def blobs_of(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}


def simple(folder: Path) -> tuple[str, Manifest]:
    """Make a layout of one image; return its name for skopeo, and the manifest."""
    layout = Layout(folder)
    manifest = layout.image()
    return layout.tag(manifest), manifest


def for_platforms(folder: Path, *architectures: str) -> tuple[str, Index]:
    """Make a layout of an image for each of *architectures*; return its name for skopeo, and the index."""
    layout = Layout(folder)
    images = [(layout.image(architecture=name), Platform("linux", name)) for name in architectures]
    index = layout.index([manifest.descriptor(platform) for manifest, platform in images])
    return layout.tag(index), index


def with_attestation(folder: Path) -> tuple[str, Index]:
    """Make what `docker buildx build --provenance` makes: an image, and in the same index a statement of it."""
    layout = Layout(folder)
    image = layout.image()
    statement = canonical_json({"_type": "https://in-toto.io/Statement/v0.1", "subject": [], "predicate": {}})
    layer = layout.keep("application/vnd.in-toto+json", statement)
    attestation = layout.manifest(config_of([statement], "unknown"), [layer])
    described = attestation.descriptor(Platform("unknown", "unknown"))
    annotations = {
        "vnd.docker.reference.digest": str(image.digest),
        "vnd.docker.reference.type": "attestation-manifest",
    }
    marked = Descriptor(described.media_type, described.digest, described.size, annotations, described.platform)
    index = layout.index([image.descriptor(Platform("linux", "amd64")), marked])
    return layout.tag(index), index


def docker_archive(file: Path, name: str, layers: int) -> Path:
    """Write an image of that many layers as `docker save` does; return *file*."""
    tars = [tar_of({f"file-{number}": os.urandom(1000)}) for number in range(layers)]
    config = config_of(tars)
    parts = {f"{number}/layer.tar": tar for number, tar in enumerate(tars)}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": list(parts)}]
    file.write_bytes(tar_of(parts | {"config.json": config, "manifest.json": json.dumps(manifest).encode()}))
    return file


def write_layout(folder: Path, architectures: tuple[str, ...] = ("amd64",)) -> list[Manifest]:
    """Write a layout, tag 1: an image of some megabytes for each architecture, and an index when there are several."""
    layout = Layout(folder)
    manifests = [
        layout.image(tar_of({"model.pkl": name.encode() + os.urandom(3_000_000)}), architecture=name)
        for name in architectures
    ]
    if len(manifests) == 1:
        layout.tag(manifests[0])
    else:
        platforms = [Platform("linux", name) for name in architectures]
        layout.tag(layout.index([m.descriptor(p) for m, p in zip(manifests, platforms, strict=True)]))
    return manifests


def write_build_context(folder: Path) -> None:
    """Write what builds an image that no other test has, with an empty file in it."""
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY empty words /\nENV ANSWER=42\n")
    (folder / "empty").touch()
    (folder / "words").write_text(secrets.token_hex())
