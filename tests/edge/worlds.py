"""Images made for these tests: real layers, a real config, real digests."""

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sanderling.edge.engines import HeldImage
from sanderling.oci import Descriptor, Digest, ImageConfig, Manifest, media_types

BUSYBOX = shutil.which("busybox")


def file(name: str, content: bytes = b"", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    return info, content


def folder(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info, b""


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@dataclass
class MadeImage:
    """The blobs of one image, by digest."""

    manifest: Manifest
    config: ImageConfig
    blobs: dict[Digest, bytes] = field(default_factory=dict)

    def held_in(self, folder: Path, reference: str = "registry.test/demo/tiny:1") -> HeldImage:
        folder.mkdir(exist_ok=True)
        for digest, content in self.blobs.items():
            (folder / digest.hex).write_bytes(content)
        return HeldImage(reference, self.manifest, self.config, lambda digest: folder / digest.hex)


def make_image(*layers: bytes, config: Mapping[str, object] | None = None, architecture: str = "amd64") -> MadeImage:
    blobs: dict[Digest, bytes] = {}

    def keep(content: bytes, media_type: str) -> Descriptor:
        digest = Digest.of(content)
        blobs[digest] = content
        return Descriptor(media_type, digest, len(content))

    descriptors = [keep(gzip.compress(layer, 1, mtime=0), media_types.OCI_LAYER_GZIP) for layer in layers]
    document = {
        "os": "linux",
        "architecture": architecture,
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer)) for layer in layers]},
        "config": dict(config or {}),
    }
    raw = json.dumps(document).encode()
    manifest = Manifest.build(keep(raw, media_types.OCI_CONFIG), descriptors)
    return MadeImage(manifest, ImageConfig.parse(raw), blobs)


def busybox_layer() -> bytes:
    assert BUSYBOX is not None
    names = [
        "sh",
        "id",
        "cat",
        "ls",
        "touch",
        "sleep",
        "mount",
        "env",
        "kill",
        "echo",
        "grep",
        "hostname",
        "wget",
        "nc",
        "pwd",
    ]
    return tar(
        [
            folder("bin"),
            file("bin/busybox", Path(BUSYBOX).read_bytes(), 0o755),
            *(link(f"bin/{name}", "busybox") for name in names),
            folder("etc"),
            file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nscorer:x:65532:65532::/home:/bin/sh\n"),
        ]
    )


def tiny_image(script: str, config: Mapping[str, object] | None = None, **more: object) -> MadeImage:
    settings = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": [script], "User": "65532:65532", **(config or {}), **more}
    return make_image(busybox_layer(), config=settings)
