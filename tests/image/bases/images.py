"""Images made by hand, to stand on: layers from what is written in a test, pushed with our own client."""

import asyncio
import gzip
import io
import json
import ssl
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from sanderling.image import PushTarget
from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, media_types
from sanderling.transfer import Credential, RegistryClient, read_file

# As its own text says it: what `libc.so.6` prints when it is run.
LIBC = b"\x7fELF...GNU C Library (Debian GLIBC 2.36-9+deb12u13) stable release version 2.36.\n"
MACHINES = {"amd64": 62, "arm64": 183, "arm": 40}
Files = Mapping[str, bytes | str | None]


def elf(architecture: str = "amd64") -> bytes:
    """The head of a program for a processor."""
    return b"\x7fELF" + bytes(14) + MACHINES[architecture].to_bytes(2, "little") + bytes(44)


def python_files(version: str = "3.12", architecture: str = "amd64") -> dict[str, bytes | str | None]:
    """A base as the official python images are: its own Python below /usr/local."""
    triplets = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf"}
    triplet = triplets[architecture]
    return {
        "lib": "usr/lib",
        f"usr/lib/{triplet}/libc.so.6": LIBC,
        f"usr/local/bin/python{version}": elf(architecture),
        "usr/local/bin/python3": f"python{version}",
        f"usr/local/lib/python{version}/os.py": b"",
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
    }


def tar_of(files: Files) -> bytes:
    """A layer: bytes are content, text is a symbolic link (after "=" a hard link), None is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                info.linkname = content.removeprefix("=")
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def pack(plain: bytes, media_type: str) -> bytes:
    match media_types.LAYER_COMPRESSION[media_type]:
        case "gzip":
            half = len(plain) // 2  # two members: what is allowed, and some writers do
            return gzip.compress(plain[:half], mtime=0) + gzip.compress(plain[half:], mtime=0)
        case "zstd":
            return zstandard.compress(plain)
        case _:
            return plain


class MadeImage:
    """Blobs and manifests of an image, for one platform or several."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: list[Manifest] = []
        self.top: Manifest | Index | None = None

    def add(
        self,
        layers: Sequence[Files | bytes],
        platform: str = "linux/amd64",
        *,
        settings: Mapping[str, Any] | None = None,
        layer_types: Sequence[str] = (),
        diff_ids: Sequence[str] | None = None,
    ) -> Manifest:
        """Add the image for *platform*; without others it is the whole."""
        plain = [layer if isinstance(layer, bytes) else tar_of(layer) for layer in layers]
        kinds = [*layer_types, *[media_types.OCI_LAYER_GZIP] * (len(plain) - len(layer_types))]
        described = [self._put(pack(tar, kind), kind) for tar, kind in zip(plain, kinds, strict=True)]
        config = {
            **Platform.parse(platform).to_json(),
            "config": dict(settings or {}),
            "rootfs": {"type": "layers", "diff_ids": diff_ids or [str(Digest.of(tar)) for tar in plain]},
        }
        manifest = Manifest.build(self._put(json.dumps(config).encode(), media_types.OCI_CONFIG), described)
        self.manifests.append(manifest)
        self.top = manifest
        return manifest

    def index(self, *platforms: str) -> Index:
        """Make an index of all that was added, for *platforms* in their order."""
        listed = [m.descriptor(Platform.parse(p)) for m, p in zip(self.manifests, platforms, strict=True)]
        self.top = Index.build(listed)
        return self.top

    def _put(self, content: bytes, media_type: str) -> Descriptor:
        digest = Digest.of(content)
        self.blobs[digest] = content
        return Descriptor(media_type, digest, len(content))

    def push(self, target: PushTarget, repository: str, tag: str, folder: Path) -> Digest:
        """Push it; return the digest of the whole."""
        return asyncio.run(self._push(target, repository, tag, folder))

    async def _push(self, target: PushTarget, repository: str, tag: str, folder: Path) -> Digest:
        tls = ssl.create_default_context(cafile=str(target.ca)) if target.ca else None
        credential = Credential(target.username, target.password or "") if target.username else None
        async with RegistryClient(target.registry, repository, credential, tls=tls) as registry:
            for digest, content in self.blobs.items():
                path = folder / f"blob-{digest.hex}"
                path.write_bytes(content)
                if not await registry.has_blob(digest):
                    await registry.push_blob(digest, len(content), lambda start, p=path: read_file(p, start))
            for manifest in self.manifests:
                await registry.push_manifest(str(manifest.digest), manifest.raw, manifest.media_type)
            assert self.top is not None
            return await registry.push_manifest(tag, self.top.raw, self.top.media_type)
