"""Bounds on what a caller sends to the API.

JSON bodies are read whole, up to a limit, before the application sees them, so that
no handler parses an endless one. Blobs are exempt: they stream, with a limit of their own.

What is read whole costs memory, so who sends more than a few lines says first who it is:
else a stranger with many connections could fill the memory.
"""

import asyncio
import re
from collections.abc import Callable

from sanderling.errors import Invalid, SanderlingError
from sanderling.server.access import Unauthenticated
from sanderling.server.api.errors import TooLarge, answer_error
from sanderling.server.front import App, Message, Receive, Scope, Send

MAX_JSON_BYTES = 8 * 1024**2
MAX_STRANGERS_BYTES = 16 * 1024
BODY_S = 120.0
STREAMED = re.compile(r"/api/v1/workspaces/[^/]+/blobs/[^/]+")


class LimitBodies:
    """Reads the body of a request that is not streamed: at most *limit* bytes, within *body_s* seconds.

    Answers 413 to a longer one, and 401 to one past MAX_STRANGERS_BYTES whose token *admit* refuses.
    """

    def __init__(
        self, app: App, admit: Callable[[str], object], limit: int = MAX_JSON_BYTES, body_s: float = BODY_S
    ) -> None:
        self._app, self._admit, self._limit, self._body_s = app, admit, limit, body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or STREAMED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._body_s):
                body = await self._read(scope, receive)
        except TimeoutError:
            await _refuse(Invalid(f"the body did not come within {self._body_s:g} seconds"), scope, receive, send)
        except SanderlingError as e:
            await _refuse(e, scope, receive, send)
        else:
            if body is not None:
                await self._app(scope, _Replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body; None when the caller went away. Raises TooLarge, Unauthenticated."""
        body, is_known = bytearray(), False
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise TooLarge(f"the body is larger than {self._limit} bytes: send content to /blobs/ and name it")
            if len(body) > MAX_STRANGERS_BYTES and not is_known:
                await asyncio.to_thread(self._admit, _bearer(scope))
                is_known = True
            if not message.get("more_body", False):
                return bytes(body)


def _bearer(scope: Scope) -> str:
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode("latin-1")
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer":
        raise Unauthenticated("this needs a token: send it as 'Authorization: Bearer ...'")
    return token.strip()


async def _refuse(error: SanderlingError, scope: Scope, receive: Receive, send: Send) -> None:
    response = answer_error(error)
    # What the caller still sends is not read: the connection ends here.
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


class _Replay:
    """Gives the body that was read, then whatever comes after it (the disconnect)."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()
