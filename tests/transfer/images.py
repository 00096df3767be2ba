"""Images for the tests: made in memory, written as a layout."""

import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, canonical_json, media_types
from sanderling.transfer.places.layout import REF_NAME


def layer_tar(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@dataclass
class Made:
    """A layout in memory: blobs by digest, and what index.json lists."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    listed: list[Descriptor] = field(default_factory=list)

    def keep(self, media_type: str, content: bytes) -> Descriptor:
        digest = Digest.of(content)
        self.blobs[digest] = content
        return Descriptor(media_type, digest, len(content))

    def image(self, architecture: str = "amd64", size: int = 300_000, packed: bool = True, seed: int = 1) -> Manifest:
        tar = layer_tar("model", Random(f"{architecture}{seed}").randbytes(size))
        layer = (
            self.keep(media_types.OCI_LAYER_GZIP, gzip.compress(tar, 1, mtime=0))
            if packed
            else self.keep(media_types.OCI_LAYER, tar)
        )
        config = {
            "os": "linux",
            "architecture": architecture,
            "config": {"Entrypoint": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(tar)]},
        }
        manifest = Manifest.build(self.keep(media_types.OCI_CONFIG, canonical_json(config)), [layer])
        self.keep(manifest.media_type, manifest.raw)
        return manifest

    def index(self, *manifests: Manifest | Index) -> Index:
        entries = []
        for one in manifests:
            if isinstance(one, Index):
                entries.append(one.descriptor())
            else:
                config = json.loads(self.blobs[one.config.digest])
                entries.append(one.descriptor(Platform(config["os"], config["architecture"])))
        index = Index.build(entries)
        self.keep(index.media_type, index.raw)
        return index

    def signature(self, subject: Manifest | Index, kind: str = "application/x-signature") -> Manifest:
        empty = self.keep(media_types.OCI_EMPTY, b"{}")
        payload = self.keep("application/octet-stream", b"signed " + subject.digest.encode())
        made = Manifest.build(empty, [payload], artifact_type=kind, subject=subject.descriptor())
        self.keep(made.media_type, made.raw)
        self.listed.append(made.descriptor())
        return made

    def name(self, top: Manifest | Index, name: str) -> None:
        self.listed.append(Descriptor(top.media_type, top.digest, len(top.raw), {REF_NAME: name}))

    def files(self) -> dict[str, bytes]:
        found = {f"blobs/{digest.algorithm}/{digest.hex}": content for digest, content in self.blobs.items()}
        found["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        found["index.json"] = Index.build(self.listed).raw
        return found

    def write(self, folder: Path) -> Path:
        for name, content in self.files().items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder


def content_of(folder: Path) -> dict[str, bytes]:
    """The blobs of a layout on disk, by name."""
    return {path.name: path.read_bytes() for path in (folder / "blobs").glob("*/*")}
