"""Push an image: ask what is there, mount what another repository has, send the rest, then name it.

The manifest goes last, so that nobody sees an image whose blobs are missing.
Each blob is verified while it is sent; a damaged one is never completed.
Source: distribution-spec 1.1, "Push".
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import quote, urljoin

import httpx

from sanderling.blobs import FileBlobs
from sanderling.errors import Unavailable
from sanderling.image.assembly import Assembled
from sanderling.image.events import Log, Progress
from sanderling.image.figures import size_text
from sanderling.image.layout import DamagedLayer, image_blobs
from sanderling.image.registry_client import PushTarget, RegistryClient, blob_path
from sanderling.oci import Digest, Hasher

AT_ONCE = 4
CHUNK_BYTES = 1 << 20
BLOB_ATTEMPTS = 4


def push(
    image: Assembled,
    blobs: FileBlobs,
    target: PushTarget,
    log: Log,
    mount_from: Mapping[Digest, str] | None = None,
    client: RegistryClient | None = None,
) -> int:
    """Push *image*, whose blobs are in *blobs*, and give it the target's tag; return the bytes that were sent.

    *mount_from* names for a blob another repository of the registry that may
    have it. Raises Denied, PushRefused, Unavailable or DamagedLayer.
    """
    registry = client or RegistryClient(target)
    try:
        wanted = image_blobs(image)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            present = pool.map(partial(_is_there, registry), wanted)
            missing = [digest for digest, there in zip(wanted, present, strict=True) if not there]
            total = sum(wanted[digest] for digest in missing)
            progress = Progress(log, "push", f"{target.shown}/{target.repository}", total)
            futures = [
                pool.submit(
                    _push_blob, registry, blobs, digest, wanted[digest], (mount_from or {}).get(digest), progress
                )
                for digest in sorted(missing, key=lambda digest: -wanted[digest])
            ]
            try:
                sent = sum(future.result() for future in futures)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if missing:
            progress.finish()
        _push_manifests(registry, image, target.tag)
        log.say("push", f"{len(missing)} of {len(wanted)} blobs, {size_text(sent)} sent")
        return sent
    finally:
        if client is None:
            registry.close()


def _is_there(registry: RegistryClient, digest: Digest) -> bool:
    response = registry.send("HEAD", registry.url(blob_path(digest)), f"asking for {digest}", expected=(200, 404, 307))
    return response.status_code != httpx.codes.NOT_FOUND


def _push_blob(
    registry: RegistryClient, blobs: FileBlobs, digest: Digest, size: int, mount_from: str | None, progress: Progress
) -> int:
    """Send one blob, from its beginning again when the connection breaks; return the bytes sent."""
    for attempt in range(BLOB_ATTEMPTS):
        counted = [0]

        def count(piece: int, counted: list[int] = counted) -> None:
            counted[0] += piece
            progress.add(piece)

        try:
            return _push_once(registry, blobs, digest, size, mount_from if attempt == 0 else None, count)
        except Unavailable as e:
            progress.add(-counted[0])
            if isinstance(e, DamagedLayer) or attempt + 1 == BLOB_ATTEMPTS:
                raise
            if _is_there(registry, digest):  # the answer was lost, not the blob
                progress.add(size)
                return size
    raise AssertionError("the last attempt raises or returns")


def _push_once(
    registry: RegistryClient,
    blobs: FileBlobs,
    digest: Digest,
    size: int,
    mount_from: str | None,
    count: Callable[[int], None],
) -> int:
    what = f"uploading {digest}"
    query = f"?mount={quote(digest)}&from={quote(mount_from, safe='/')}" if mount_from else ""
    begun = registry.send("POST", registry.url("blobs/uploads/") + query, what, expected=(201, 202))
    if begun.status_code == httpx.codes.CREATED:
        count(size)
        return 0
    location = urljoin(registry.root, begun.headers.get("location", ""))
    url = f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}"
    registry.send(
        "PUT",
        url,
        what,
        expected=(201,),
        headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
        body=lambda: _read(blobs, digest, count),
        retry=False,
    )
    return size


def _read(blobs: FileBlobs, digest: Digest, count: Callable[[int], None]) -> Iterator[bytes]:
    """The blob's bytes; the last piece comes only when all of it is what the digest says."""
    hasher = Hasher(digest.algorithm)
    with blobs.path(digest).open("rb") as file:
        held = b""
        while piece := file.read(CHUNK_BYTES):
            hasher.update(piece)
            if held:
                yield held
                count(len(held))
            held = piece
    if hasher.digest() != digest:
        raise DamagedLayer(digest)
    yield held
    count(len(held))


def _push_manifests(registry: RegistryClient, image: Assembled, tag: str) -> None:
    documents: list[tuple[str, str, bytes]] = []
    for manifest in image.manifests:
        documents.append((manifest.digest if image.index else tag, manifest.media_type, manifest.raw))
    if image.index is not None:
        documents.append((tag, image.index.media_type, image.index.raw))
    for reference, media_type, raw in documents:
        registry.send(
            "PUT",
            registry.url(f"manifests/{reference}"),
            f"the manifest {reference}",
            expected=(201,),
            headers={"Content-Type": media_type},
            body=raw,
        )
