"""The one table that turns errors into HTTP answers, and the handlers that use it.

Every error of the API has the shape `{"error": {"code", "message"}}`.
"""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sanderling.blobs import StoreFull
from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.server.access import TooManyAttempts, Unauthenticated

log = logging.getLogger(__name__)


class TooLarge(Invalid):
    """A body is larger than what is accepted."""


# The first row that fits counts: subclasses stand before their parents.
STATUS: tuple[tuple[type[SanderlingError], int, str], ...] = (
    (Unauthenticated, 401, "unauthenticated"),
    (Denied, 403, "denied"),
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (TooLarge, 413, "invalid"),
    (Invalid, 400, "invalid"),
    (TooManyAttempts, 429, "unavailable"),
    (StoreFull, 507, "unavailable"),
    (Unavailable, 503, "unavailable"),
)

# What the framework itself answers, in our words.
FRAMEWORK_CODES = {401: "unauthenticated", 403: "denied", 404: "not_found", 405: "invalid", 413: "invalid"}


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error in the API's shape."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def answer_error(error: SanderlingError) -> JSONResponse:
    """Return the answer for *error* by the table."""
    for kind, status, code in STATUS:
        if isinstance(error, kind):
            headers = {}
            if status == 401:
                headers["WWW-Authenticate"] = 'Bearer realm="sanderling"'
            if isinstance(error, TooManyAttempts):
                headers["Retry-After"] = str(error.retry_after_s)
            return answer(status, code, error.message, headers)
    raise error


def add_handlers(app: FastAPI) -> None:
    """Let *app* answer every error in the API's shape."""
    app.add_exception_handler(SanderlingError, _on_ours)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_framework)
    app.add_exception_handler(UnicodeEncodeError, _on_half_a_pair)
    app.add_exception_handler(OverflowError, _on_huge_number)
    app.add_exception_handler(Exception, _on_fault)


async def _on_ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SanderlingError)
    return answer_error(error)


async def _on_validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # The values themselves are left out: a body may hold a secret.
    faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()[:5]]
    return answer(400, "invalid", "the request does not fit the API: " + "; ".join(faults))


async def _on_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = FRAMEWORK_CODES.get(error.status_code, "invalid" if error.status_code < 500 else "unavailable")
    message = str(error.detail)
    if error.status_code == 404:
        message = f"there is no {request.url.path} here; /api/openapi.json lists what there is"
    return answer(error.status_code, code, message, dict(error.headers or {}))


async def _on_half_a_pair(_request: Request, _error: Exception) -> JSONResponse:
    # JSON can escape half of a surrogate pair; no encoding, and no database, takes it.
    return answer(400, "invalid", "a text holds half of a surrogate pair: send whole characters")


async def _on_huge_number(_request: Request, _error: Exception) -> JSONResponse:
    return answer(400, "invalid", "a number is larger than any that can be here")


async def _on_fault(_request: Request, error: Exception) -> JSONResponse:
    # Logged with its traceback by the server; the caller learns nothing of our insides.
    return answer(500, "internal", "the server failed at this request; its log says why")
