"""Blobs: HEAD, GET with ranges, DELETE. distribution-spec 1.1, "Pulling blobs" and "Deleting Blobs"."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import BinaryIO

from starlette.responses import Response

from sanderling.blobs import BlobNotFound, BlobStore, LocalFiles
from sanderling.oci import Digest
from sanderling.registry.content.content import Content
from sanderling.registry.errors import RangeInvalid
from sanderling.registry.protocol.wire import (
    BlobResponse,
    Call,
    FileResponse,
    PassingResponse,
    error_response,
    is_unchanged,
    parse_digest,
    parse_range,
)
from sanderling.registry.upstream.cache import Expected, PullThrough


class BlobEndpoint:
    """Serves blobs that a row makes visible in the repository."""

    def __init__(self, content: Content, blobs: BlobStore, cache: PullThrough) -> None:
        self._content, self._blobs, self._cache = content, blobs, cache

    async def get(self, call: Call) -> Response:
        """Answer GET and HEAD: 200, 206, 304 or 416."""
        digest = parse_digest(call.item)
        is_asked = call.request.method == "HEAD"  # a client that pushes looks what it need not send
        look = self._content.tell_blob if is_asked else self._content.find_blob
        info = await asyncio.to_thread(look, call.name, digest)
        expected: Expected | None = None
        if info is None:
            expected = await self._cache.find_expected(call.name, digest)
            if expected is None:
                raise BlobNotFound(digest)
            info = expected.blob
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": "max-age=31536000, immutable, private",
        }
        request = call.request
        if is_unchanged(request, digest):
            return Response(status_code=304, headers=headers)
        start, end, status = 0, info.size, 200
        asked = request.headers.get("range")
        if asked is not None and request.headers.get("if-range", f'"{digest}"') == f'"{digest}"':
            try:
                part = parse_range(asked, info.size)
            except RangeInvalid as e:
                return error_response(e, {"Content-Range": f"bytes */{info.size}"})
            if part is not None:
                start, end = part
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
                status = 206
        headers["Content-Length"] = str(end - start)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        if expected is not None:
            download = await self._cache.begin(expected)
            return PassingResponse(download.read(start, end), status, headers=headers)
        if isinstance(self._blobs, LocalFiles) and FileResponse.is_possible(request):
            file = await asyncio.to_thread(_open, self._blobs, digest)
            return FileResponse(file, start, end - start, status, headers)
        return BlobResponse(await self._begun(digest, start, end), status, headers=headers)

    async def delete(self, call: Call) -> Response:
        """Hide the blob from this repository, at once; its bytes go with the garbage."""
        await asyncio.to_thread(self._content.unlink_blob, call.name, parse_digest(call.item))
        return Response(status_code=202)

    async def _begun(self, digest: Digest, start: int, end: int) -> AsyncIterator[bytes]:
        """Open the blob before the status is sent, so that a missing one is a 404."""
        stream: AsyncGenerator[bytes, None] = self._blobs.open(digest, start, end)  # type: ignore[assignment]
        first = await anext(stream, b"")

        async def whole() -> AsyncGenerator[bytes, None]:
            async with aclosing(stream):
                yield first
                async for piece in stream:
                    yield piece

        return whole()


def _open(blobs: LocalFiles, digest: Digest) -> BinaryIO:
    path = blobs.find_path(digest)
    if path is not None:
        with suppress(FileNotFoundError):  # removed this moment
            return path.open("rb", buffering=0)
    raise BlobNotFound(digest)
