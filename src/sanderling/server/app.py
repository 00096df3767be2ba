"""One ASGI application for everything the server answers over HTTPS.

/api, /.well-known, /healthz   the public API
everything else                404, in the API's shape
"""

from sanderling.server.api import create_api
from sanderling.server.api.limits import App, Message, Receive, Scope, Send
from sanderling.server.parts import Parts

# Pages load nothing from elsewhere and are shown in no frame.
HTML_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        b"form-action 'self'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class SafeHeaders:
    """Adds the headers that keep browsers from guessing, framing and caching what is private."""

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


def create_app(parts: Parts) -> App:
    """Return the application over *parts*."""
    return SafeHeaders(create_api(parts))
