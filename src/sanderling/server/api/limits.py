"""Bounds on what a caller sends to the API.

JSON bodies are read whole, up to a limit, before the application sees them, so that
no handler parses an endless one. Blobs are exempt: they stream, with a limit of their own.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sanderling.server.api.errors import TooLarge, answer_error

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_JSON_BYTES = 8 * 1024**2
STREAMED = re.compile(r"/api/v1/workspaces/[^/]+/blobs/[^/]+")


class LimitBodies:
    """Answers 413 when the body of a request that is not streamed is longer than *limit* bytes."""

    def __init__(self, app: App, limit: int = MAX_JSON_BYTES) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or STREAMED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        body, whole = bytearray(), False
        while not whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            whole = not message.get("more_body", False)
            if len(body) > self._limit:
                error = TooLarge(f"the body is larger than {self._limit} bytes: send content to /blobs/ and name it")
                response = answer_error(error)
                # What the caller still sends is not read: the connection ends here.
                response.headers["Connection"] = "close"
                await response(scope, receive, send)
                return
        await self._app(scope, _Replay(bytes(body), receive), send)


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
