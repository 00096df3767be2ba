"""Uploads. distribution-spec 1.1, "Pushing blobs".

    POST ?digest=         the whole at once
    POST ?mount=&from=    from another repository, where that may be pulled
    POST                  begin; then PATCH*, PUT ?digest=; GET is the status, DELETE the end
                          (?digest-algorithm= of the later digest may be told: one that we lack is refused now)

What has come stays until the upload ends: a client goes on from the offset that
the status gives, also after the server was restarted. Not where there is no
room, on the disk or in the quota: then the upload ends and its bytes go at once.
"""

import asyncio
import re
from contextlib import aclosing, suppress

from starlette.requests import Request
from starlette.responses import Response

from sanderling.blobs import BlobStore, LocalFiles, StoreFull, UploadNotFound, WrongOffset
from sanderling.errors import SanderlingError
from sanderling.oci import Digest, DigestMismatch, is_repository
from sanderling.registry.content.content import Content
from sanderling.registry.errors import DigestInvalid, SizeInvalid
from sanderling.registry.protocol.wire import (
    Call,
    content_length,
    error_response,
    is_large,
    parse_content_range,
    parse_digest,
    received,
    received_into,
    uploaded_range,
)
from sanderling.registry.space.allowance import Allowance
from sanderling.registry.space.links import BlobLinks
from sanderling.registry.space.quota import QuotaExceeded

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class UploadEndpoint:
    """Takes blobs into the store, and makes them visible in the repository when they are whole."""

    def __init__(self, content: Content, blobs: BlobStore, links: BlobLinks | None = None) -> None:
        self._content, self._blobs = content, blobs
        self._links = links or BlobLinks(content, blobs)

    async def begin(self, call: Call) -> Response:
        """Answer POST: 201 when the blob is here now, else 202 with an upload."""
        parameters = call.request.query_params
        if parameters.get("digest-algorithm", "sha256") not in ("sha256", "sha512"):
            raise DigestInvalid(
                f"{parameters['digest-algorithm'][:50]!r} is no digest algorithm of ours: sha256, sha512"
            )
        if "digest" in parameters:
            return await self._whole(call, parse_digest(parameters["digest"]))
        if "mount" in parameters:
            digest = parse_digest(parameters["mount"])
            if await self._mount(call, digest, parameters.get("from", "")):
                return _created(call.name, digest)
        await asyncio.to_thread(self._content.check_room, call.name, 1)
        upload_id = await self._blobs.begin_upload()
        try:
            await asyncio.to_thread(self._content.add_upload, upload_id, call.name)
        except BaseException:
            with suppress(SanderlingError):
                await self._blobs.abort(upload_id)
            raise
        return _progress(202, call.name, upload_id, 0)

    async def status(self, call: Call) -> Response:
        """Answer GET: how far it is."""
        return _progress(204, call.name, call.item, await self._offset(call))

    async def patch(self, call: Call) -> Response:
        """Answer PATCH: 202 with the new range, 416 when it is out of order."""
        try:
            offset = await self._append(call, await self._offset(call))
        except WrongOffset as e:
            return error_response(e, _where(call.name, call.item))
        except (QuotaExceeded, StoreFull):
            await self._forget(call.item)
            raise
        return _progress(202, call.name, call.item, offset)

    async def finish(self, call: Call) -> Response:
        """Answer PUT: 201. With a wrong digest the upload ends and nothing is kept."""
        offset = await self._offset(call)
        text = call.request.query_params.get("digest")
        if text is None:
            raise DigestInvalid("the upload is finished with ?digest=")
        digest = parse_digest(text)
        try:
            await self._append(call, offset, digest)
            await self._links.commit(call.name, call.item, digest)
        except WrongOffset as e:
            return error_response(e, _where(call.name, call.item))
        except (DigestMismatch, QuotaExceeded, StoreFull):
            await self._forget(call.item)
            raise
        return _created(call.name, digest)

    async def cancel(self, call: Call) -> Response:
        """Answer DELETE: 204."""
        await self._offset(call)
        await self._blobs.abort(call.item)
        await asyncio.to_thread(self._content.end_upload, call.item)
        return Response(status_code=204)

    async def _offset(self, call: Call) -> int:
        if not _UPLOAD_ID.fullmatch(call.item):
            raise UploadNotFound(call.item)
        await asyncio.to_thread(self._content.check_upload, call.item, call.name)
        return await self._blobs.upload_offset(call.item)

    async def _append(self, call: Call, offset: int, digest: str = "") -> int:
        length = content_length(call.request)
        header = call.request.headers.get("content-range")
        start, promised = (offset, None) if header is None else parse_content_range(header)
        if promised is not None and length not in (None, promised):
            raise SizeInvalid(f"Content-Range promises {promised} bytes and Content-Length {length}")
        allowance = await self._links.find_allowance(call.name, offset, length, digest)
        end = await self._receive(call.request, call.item, start, allowance)
        if promised is not None and end - start != promised:
            raise SizeInvalid(f"Content-Range promised {promised} bytes and {end - start} came")
        return end

    async def _receive(self, request: Request, upload_id: str, start: int, allowance: Allowance | None) -> int:
        """Add the body to the upload at *start*; return where it ends then. Raises `QuotaExceeded`."""
        if isinstance(self._blobs, LocalFiles) and is_large(request):
            with self._blobs.appending(upload_id, start) as upload:
                if await received_into(request, upload if allowance is None else allowance.writer(upload)):
                    return upload.offset
        async with aclosing(received(request)) as pieces:
            return await self._blobs.append(upload_id, start, pieces if allowance is None else allowance.pieces(pieces))

    async def _whole(self, call: Call, digest: Digest) -> Response:
        upload_id = await self._blobs.begin_upload()
        try:
            length = content_length(call.request)
            allowance = await self._links.find_allowance(call.name, 0, length, digest)
            await self._receive(call.request, upload_id, 0, allowance)
            await self._links.commit(call.name, upload_id, digest)
        except BaseException:
            with suppress(SanderlingError):
                await self._blobs.abort(upload_id)
            raise
        return _created(call.name, digest)

    async def _mount(self, call: Call, digest: Digest, source: str) -> bool:
        """Link the blob when a repository that may be pulled has it (named, or any)."""
        if source:
            sources = [source] if is_repository(source) else []
        else:
            # distribution-spec 1.1, "Mounting a blob from another repository": without `from`, any will do.
            anywhere = await asyncio.to_thread(self._content.find_blob_anywhere, digest)
            sources = [name for name, _ in anywhere]
        sources = [name for name in sources if call.principal.may("pull", name)]
        if not sources or await self._blobs.stat(digest) is None:
            return False
        for name in sources:
            if await asyncio.to_thread(self._content.mount_blob, call.name, name, digest) is not None:
                return True
        return False

    async def _forget(self, upload_id: str) -> None:
        with suppress(UploadNotFound):
            await self._blobs.abort(upload_id)
        await asyncio.to_thread(self._content.end_upload, upload_id)


def _where(name: str, upload_id: str) -> dict[str, str]:
    # A path alone: it fits whatever name and port the client reached us by.
    return {"Location": f"/v2/{name}/blobs/uploads/{upload_id}", "Docker-Upload-UUID": upload_id}


def _progress(status: int, name: str, upload_id: str, offset: int) -> Response:
    headers = _where(name, upload_id) | {"Range": uploaded_range(offset)}
    if status != 204:
        headers["Content-Length"] = "0"
    return Response(status_code=status, headers=headers)


def _created(name: str, digest: Digest) -> Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Response(status_code=201, headers=headers)
