"""What handlers ask for: the joined parts, the caller, and the shape of JSON."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

import anyio
from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from sanderling.oci import Digest
from sanderling.server.access import Caller, Unauthenticated
from sanderling.server.parts import Parts

MAX_WAIT_S = 30.0

T = TypeVar("T")

_bearer = HTTPBearer(auto_error=False, description="A token of this server")


class Shape(BaseModel):
    """JSON with camelCase keys."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


def parts(request: Request) -> Parts:
    """Return the parts of the server that answers this request."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


PartsDep = Annotated[Parts, Depends(parts)]


def bearer_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """Return the token of the request; Unauthenticated when there is none."""
    if credentials is None:
        raise Unauthenticated("this needs a token: send it as 'Authorization: Bearer ...'")
    return credentials.credentials


TokenDep = Annotated[str, Depends(bearer_token)]


def caller(parts: PartsDep, token: TokenDep) -> Caller:
    """Return who calls; Unauthenticated when the token is not known."""
    return parts.access.authenticate(token)


CallerDep = Annotated[Caller, Depends(caller)]


def workspace(ws: Annotated[str, Path(description="The workspace's name")], caller: CallerDep) -> str:
    """Return the workspace of the path; Denied when the caller may not work in it."""
    caller.require_workspace(ws)
    return ws


WorkspaceDep = Annotated[str, Depends(workspace)]


def owner(caller: CallerDep) -> Caller:
    """Return the caller; Denied when it is not the owner."""
    caller.require_owner("do this")
    return caller


OwnerDep = Annotated[Caller, Depends(owner)]


def digest(digest: Annotated[str, Path(description="sha256:...")]) -> Digest:
    """Return the digest of the path; Invalid when it is none."""
    return Digest.parse(unquote(digest))


DigestDep = Annotated[Digest, Depends(digest)]


async def wait_for(parts: Parts, wait_s: float, wait: Callable[[], Awaitable[T]]) -> T | None:
    """Wait until *wait* returns, at most *wait_s* (bounded by MAX_WAIT_S); None when it did not.

    Ends at once when the server stops, so that long polls never hold up its end.
    """
    result: T | None = None

    async def work(scope: anyio.CancelScope) -> None:
        nonlocal result
        result = await wait()
        scope.cancel()

    async def end(scope: anyio.CancelScope) -> None:
        await parts.stopping.wait()
        scope.cancel()

    with anyio.move_on_after(min(wait_s, MAX_WAIT_S)):
        async with anyio.create_task_group() as group:
            group.start_soon(work, group.cancel_scope)
            group.start_soon(end, group.cancel_scope)
    return result


def rfc3339(moment: datetime | None) -> str | None:
    """Return *moment* as the API writes times, in UTC."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


JSON = dict[str, Any]
