"""An image as `docker load` reads it: a tar stream made on the fly from our own content store.

    <config hex>.json, <layer hex>.tar.gz ..., manifest.json

Layers stay compressed: Docker unpacks them and checks their diffIDs. Nothing is
held in memory but one piece. Format: Docker's "image tarball" (`docker save`), v1.2.
"""

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

from sanderling.edge.engines.port import HeldImage

_PIECE = 1024 * 1024


async def docker_archive(image: HeldImage, tags: list[str]) -> AsyncIterator[bytes]:
    """Yield the archive of *image*, to be loaded under *tags*."""
    config_name = f"{image.config.digest.hex}.json"
    yield _member(config_name, image.config.raw)
    names = []
    for layer in image.manifest.layers:
        name = f"{layer.digest.hex}.tar.gz"
        if name not in names:
            yield _header(name, layer.size)
            async for piece in _content(image.path(layer.digest)):
                yield piece
            yield bytes(-layer.size % tarfile.BLOCKSIZE)
        names.append(name)
    listing = [{"Config": config_name, "RepoTags": tags, "Layers": names}]
    yield _member("manifest.json", json.dumps(listing).encode())
    yield bytes(2 * tarfile.BLOCKSIZE)


async def _content(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
    finally:
        file.close()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _member(name: str, content: bytes) -> bytes:
    return _header(name, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
