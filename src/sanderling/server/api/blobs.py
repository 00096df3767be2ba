"""Content for models and builds: sent first, by digest, then named by it."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from sanderling.errors import Invalid
from sanderling.oci import Digest
from sanderling.server.api.depends import DigestDep, PartsDep, WorkspaceDep
from sanderling.server.api.errors import TooLarge
from sanderling.server.parts import Parts

router = APIRouter(prefix="/workspaces/{ws}/blobs", tags=["blobs"])


@router.head("/{digest}", responses={404: {"description": "not sent to this workspace"}})
def find_blob(parts: PartsDep, ws: WorkspaceDep, digest: DigestDep) -> Response:
    """Tell whether this workspace holds the content already; its size is in Content-Length."""
    size = parts.workspaces.find_sizes(ws, [digest]).get(digest)
    if size is None:
        return Response(status_code=404)
    return Response(status_code=200, headers={"Content-Length": str(size)})


@router.put(
    "/{digest}",
    status_code=201,
    openapi_extra={
        "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def put_blob(parts: PartsDep, ws: WorkspaceDep, digest: DigestDep, request: Request) -> Response:
    """Store the body, which must have this digest. A body that breaks off or differs leaves nothing."""
    await asyncio.to_thread(parts.workspaces.get, ws)
    await _store(parts, digest, request)
    await asyncio.to_thread(parts.workspaces.admit, ws, digest)
    return Response(status_code=201)


async def _store(parts: Parts, digest: Digest, request: Request) -> None:
    limit = parts.settings.max_blob_bytes
    upload = await parts.workspace_blobs.begin_upload()
    try:
        await parts.workspace_blobs.append(upload, 0, _bounded(request, limit))
        await parts.workspace_blobs.commit(upload, digest)
    except BaseException as e:
        await parts.workspace_blobs.abort(upload)
        if isinstance(e, ClientDisconnect):
            raise Invalid(f"the content of {digest} broke off: send it again") from e
        raise


async def _bounded(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield the body; raise TooLarge before more than *limit* bytes are kept."""
    received = int(request.headers.get("content-length", "0"))
    if received > limit:
        raise TooLarge(f"a file may have at most {limit} bytes: split it")
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise TooLarge(f"a file may have at most {limit} bytes: split it")
        yield chunk
