"""What every REST handler shares: who calls, the body, and errors in IoT Hub's words."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sanderling.errors import SanderlingError, Unavailable
from sanderling.hub.access import Access, Principal
from sanderling.hub.errors import TooLarge, describe
from sanderling.iot import documents

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 * 1024 * 1024
Handler = Callable[[Request], Awaitable[Response]]


class Guard:
    """Wraps handlers, so that each sees only callers who have its right."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def route(self, path: str, method: str, right: str, handler: Handler, *, device_may: bool = False) -> Route:
        """Return the route; *device_may* lets a device in whose id is in the path, besides who has *right*."""

        async def answer(request: Request) -> Response:
            try:
                header = request.headers.get("authorization")
                principal: Principal = await asyncio.to_thread(self._access.authenticate, header)
                principal.demand(right, own_device_id=request.path_params.get("device") if device_may else None)
                return await handler(request)
            except SanderlingError as error:
                return error_response(error)
            except SQLAlchemyError as error:
                log.exception("%s %s failed", method, path)
                return error_response(Unavailable(f"the hub's database failed ({type(error).__name__}); try again"))

        return Route(path, answer, methods=[method], name=f"hub-{method}-{path}")


def error_response(error: SanderlingError) -> Response:
    """Return *error* in IoT Hub's form, with the public API's form beside it."""
    name, number, word = describe(error)
    tracking = f"{secrets.token_hex(16)}-TimeStamp:{datetime.now(UTC):%m/%d/%Y %H:%M:%S}"
    body = {
        "Message": f"ErrorCode:{name};{error.message}",
        "ExceptionMessage": f"Tracking ID:{tracking}",
        "errorCode": number,
        "error": {"code": word, "message": error.message},
    }
    headers = {"iothub-errorcode": name}
    if number // 1000 == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=number // 1000, headers=headers)


async def read_object(request: Request, *, what: str = "the request's body") -> dict[str, Any]:
    """Return the JSON object in the body. Raises TooLarge or Invalid."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(MAX_BODY_BYTES)
    return documents.parse_object(bytes(body), what)


def if_match(request: Request) -> str | None:
    """Return the ETag of If-Match without its quotes, ``*``, or None. Clients quote it or not."""
    header = request.headers.get("if-match")
    if header is None:
        return None
    return header.strip().removeprefix("W/").strip('"')
