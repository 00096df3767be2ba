"""Responses, and their bytes on the wire.

Field values come from user scripts too, so what could break out of a field (CR,
LF, NUL) is never written.
"""

from __future__ import annotations

import time

REASONS = {
    100: "Continue",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = "application/json"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Response:
    """What is answered: a status, a body with its type, and further header fields.

    `route` is the path's name in the metrics.
    """

    __slots__ = ("body", "content_type", "headers", "route", "status")

    def __init__(
        self, status: int, body: bytes, content_type: str = JSON, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.route = "other"


def message(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """Return the JSON object `{"message": text}`, the form of every error."""
    import json

    return Response(status, json.dumps({"message": text}).encode(), JSON, headers)


class Clock:
    """The Date field's line, made anew once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        """Return the line for now (RFC 9110, section 5.6.7)."""
        second = int(time.time())
        if second != self._second:
            t = time.gmtime(second)
            day = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d}"
            self._line = f"Date: {day} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT\r\n".encode()
            self._second = second
        return self._line


def encode(response: Response, clock: Clock, *, keep_alive: bool, version: str = "1.1", is_head: bool = False) -> bytes:
    """Return the response's bytes; the body is left out in answer to HEAD."""
    status = response.status
    body = response.body
    has_body = status != 204 and status != 304
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in response.headers]
    if has_body:
        if response.content_type:
            lines.append(f"Content-Type: {response.content_type}\r\n")
        lines.append(f"Content-Length: {len(body)}\r\n")
    if not keep_alive:
        lines.append("Connection: close\r\n")
    elif version == "1.0":
        lines.append("Connection: keep-alive\r\n")
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        text = "".join(line for line in lines if _is_one_line(line))
    head = text.encode("latin-1", "replace") + clock.line() + b"\r\n"
    return head + body if has_body and not is_head else head


def _is_one_line(line: str) -> bool:
    return line.count("\n") == line.count("\r") == 1 and "\0" not in line
