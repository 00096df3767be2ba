"""What stands before every application of ours: headers that keep browsers safe, and the way by path."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Pages load nothing from elsewhere and are shown in no frame.
HTML_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class SafeHeaders:
    """Adds, where they are missing, the headers that keep browsers from guessing, framing and caching."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_missing(scope["path"], message.get("headers", ()))]
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)


def _missing(path: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    has = {name.lower(): value for name, value in headers}
    wanted = [(b"x-content-type-options", b"nosniff")]
    if has.get(b"content-type", b"").startswith(b"text/html"):
        wanted += HTML_HEADERS
    if path.startswith("/api/"):
        wanted.append((b"cache-control", b"no-store"))
    return [(name, value) for name, value in wanted if name not in has]


class Front:
    """Hands a request to the application that its path belongs to."""

    def __init__(self, by_path: dict[str, App], otherwise: App) -> None:
        self._by_path, self._otherwise = by_path, otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._otherwise
        if scope["type"] == "http":
            first = "/" + scope["path"].split("/", 2)[1] if scope["path"].startswith("/") else ""
            app = self._by_path.get(first, app)
        await app(scope, receive, send)
