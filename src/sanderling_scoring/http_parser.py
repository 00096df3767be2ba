"""HTTP/1.1 requests out of bytes, with no socket (RFC 9110, RFC 9112).

The rules this file keeps:
- Strict where two readers could differ about where a request ends: one
  Content-Length of digits only, never together with Transfer-Encoding, which may
  only be `chunked`; lines end in CRLF; no folded lines; no blank line before a
  request. What is not clear is refused, and the connection ends.
- Bounded: head, number of fields, body, chunk extensions and trailers.
- A request comes out whole, with its body, or not at all.

States:

    HEAD ──▶ (no body) ──────────────────────────▶ request
         ──▶ FIXED ──▶ enough bytes ─────────────▶ request
         ──▶ CHUNK_SIZE ⇄ CHUNK_DATA; size 0 ──▶ TRAILERS ──▶ request
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100
MAX_CHUNK_LINE_BYTES = 1024
MAX_CHUNK_EXTENSION_BYTES = 16 * 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELDS = rb"(?:" + _TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*"
_HEAD = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n(" + _FIELDS + rb")")
_REQUEST_LINE = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/[0-9]\.[0-9]\r\n")
_TRAILERS = re.compile(_FIELDS)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?")
_DIGITS = re.compile(r"[0-9]{1,18}")

HEAD, FIXED, CHUNK_SIZE, CHUNK_DATA, TRAILERS, FAILED = range(6)

# A second one of these changes what the request means, or whom it is for.
_ONLY_ONCE = frozenset(("content-length", "transfer-encoding", "host", "expect", "content-type"))


class ProtocolError(Exception):
    """The peer broke HTTP or went past a limit; answer `status` and close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Request:
    """One whole request. Field names are in lower case; treat `headers` as read-only."""

    __slots__ = ("body", "headers", "keep_alive", "method", "target", "version")

    def __init__(
        self, method: str, target: str, version: str, headers: dict[str, str], keep_alive: bool, body: bytes = b""
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = body


class RequestParser:
    """Turn the bytes of one connection into requests.

    `feed` bytes, then call `next_request` until it returns None. After a
    ProtocolError the parser gives nothing more: where the next request would
    begin is not known. `wants_continue` is true once, when the client waits for
    `100 Continue` before it sends the body.
    """

    __slots__ = (
        "_body_size",
        "_buffer",
        "_chunks",
        "_extension_bytes",
        "_last_head",
        "_last_parsed",
        "_left",
        "_max_body_bytes",
        "_request",
        "_searched",
        "_state",
        "wants_continue",
    )

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = b""
        self._searched = 0
        self._state = HEAD
        self._request: Optional[Request] = None
        self._chunks: list[bytes] = []
        self._left = 0
        self._body_size = 0
        self._extension_bytes = 0
        self._last_head = b""
        self._last_parsed: Optional[tuple[Request, int]] = None
        self.wants_continue = False

    @property
    def is_between_requests(self) -> bool:
        """Whether no byte of a next request is here."""
        return self._state == HEAD and not self._buffer

    @property
    def is_in_body(self) -> bool:
        """Whether a head came and its body is not complete."""
        return self._state in (FIXED, CHUNK_SIZE, CHUNK_DATA, TRAILERS)

    @property
    def held_bytes(self) -> int:
        """How many bytes are held for the request that is not complete."""
        return len(self._buffer) + self._body_size

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._state == FIXED and not self._buffer:
            # A large body is collected piece by piece and joined once.
            if len(data) > self._left:
                self._buffer = data[self._left :]
                data = data[: self._left]
            self._take_body(data)
        else:
            self._buffer = self._buffer + data if self._buffer else data

    def next_request(self) -> Optional[Request]:
        """Return the next whole request, or None until more bytes come; raises ProtocolError."""
        try:
            return self._advance()
        except ProtocolError:
            self._state = FAILED
            self._buffer = b""
            self._chunks = []
            raise

    def _advance(self) -> Optional[Request]:
        if self._state == HEAD and not self._read_head():
            return None
        if self._state == FIXED:
            if self._left:
                if not self._buffer:
                    return None
                piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
                self._take_body(piece)
                if self._left:
                    return None
            return self._finish()
        while True:
            if self._state == CHUNK_SIZE and not self._read_chunk_size():
                return None
            if self._state == CHUNK_DATA and not self._read_chunk_data():
                return None
            if self._state == TRAILERS:
                return self._finish() if self._read_trailers() else None
            if self._state == FAILED:
                return None

    def _take_body(self, piece: bytes) -> None:
        self._chunks.append(piece)
        self._left -= len(piece)
        self._body_size += len(piece)
        self.wants_continue = False

    def _finish(self) -> Request:
        request = self._request
        assert request is not None
        chunks = self._chunks
        request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._request = None
        self._body_size = 0
        self._extension_bytes = 0
        self._searched = 0
        self._state = HEAD
        self.wants_continue = False
        return request

    def _read_head(self) -> bool:
        buffer = self._buffer
        if not buffer:
            return False
        end = buffer.find(b"\r\n\r\n", self._searched)
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(buffer) > MAX_HEAD_BYTES:
                raise ProtocolError(431, f"the request's head exceeds {MAX_HEAD_BYTES} bytes")
            _refuse_early(buffer)
            self._searched = max(0, len(buffer) - 3)
            return False
        head = buffer[: end + 2]
        self._buffer = buffer[end + 4 :]
        self._searched = 0
        if head == self._last_head and self._last_parsed is not None:
            # A client that keeps its connection mostly repeats its head.
            parsed, length = self._last_parsed
        else:
            parsed, length = _parse_head(head)
            self._last_head, self._last_parsed = head, (parsed, length)
        self._begin_body(parsed, length)
        return True

    def _begin_body(self, parsed: Request, length: int) -> None:
        self._request = Request(parsed.method, parsed.target, parsed.version, parsed.headers, parsed.keep_alive)
        if length > self._max_body_bytes:
            raise ProtocolError(413, f"the body exceeds {self._max_body_bytes} bytes")
        if length < 0:
            self._state = CHUNK_SIZE
        else:
            self._state = FIXED
            self._left = length
        expectation = parsed.headers.get("expect")
        if expectation is not None and parsed.version == "1.1":
            if expectation.lower() != "100-continue":
                raise ProtocolError(417, "only the expectation 100-continue is met")
            self.wants_continue = length != 0 and not self._buffer

    def _read_chunk_size(self) -> bool:
        buffer = self._buffer
        end = buffer.find(b"\r\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(buffer) >= MAX_CHUNK_LINE_BYTES:
                raise ProtocolError(400, "a chunk's size line is too long")
            if b"\n" in buffer:
                raise ProtocolError(400, "a chunk's size line must end in CRLF")
            return False
        match = _CHUNK_SIZE.fullmatch(buffer, 0, end)
        if match is None:
            raise ProtocolError(400, "a chunk's size is not hexadecimal")
        self._extension_bytes += len(match.group(2) or b"")
        if self._extension_bytes > MAX_CHUNK_EXTENSION_BYTES:
            raise ProtocolError(400, "too many chunk extensions")
        size = int(match.group(1), 16)
        if self._body_size + size > self._max_body_bytes:
            raise ProtocolError(413, f"the body exceeds {self._max_body_bytes} bytes")
        self._buffer = buffer[end + 2 :]
        self._left = size
        self._state = CHUNK_DATA if size else TRAILERS
        self.wants_continue = False
        return True

    def _read_chunk_data(self) -> bool:
        buffer = self._buffer
        if self._left:
            if not buffer:
                return False
            piece = buffer[: self._left]
            self._buffer = buffer = buffer[len(piece) :]
            self._take_body(piece)
            if self._left:
                return False
        if len(buffer) < 2:
            if buffer and buffer != b"\r":
                raise ProtocolError(400, "a chunk does not end in CRLF")
            return False
        if buffer[:2] != b"\r\n":
            raise ProtocolError(400, "a chunk does not end in CRLF")
        self._buffer = buffer[2:]
        self._state = CHUNK_SIZE
        return True

    def _read_trailers(self) -> bool:
        buffer = self._buffer
        if buffer[:2] == b"\r\n":
            self._buffer = buffer[2:]
            return True
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(buffer) > MAX_HEAD_BYTES:
                raise ProtocolError(431, f"the trailers exceed {MAX_HEAD_BYTES} bytes")
            return False
        trailers = buffer[: end + 2]
        if _TRAILERS.fullmatch(trailers) is None or trailers.count(b"\r\n") > MAX_FIELDS:
            raise ProtocolError(400, "the trailers are malformed")
        self._buffer = buffer[end + 4 :]
        return True


def _refuse_early(buffer: bytes) -> None:
    """Refuse what can never become a request, without waiting for its end."""
    line, newline, _ = buffer.partition(b"\n")
    if newline and _REQUEST_LINE.fullmatch(line + newline) is None:
        raise ProtocolError(400, "the request line is malformed")
    if not newline and buffer[0] <= 0x20:
        raise ProtocolError(400, "the request line is malformed")


def _parse_head(head: bytes) -> tuple[Request, int]:
    """Return the request without its body, and the body's length (-1: chunked)."""
    match = _HEAD.fullmatch(head)
    if match is None:
        first_line = head.partition(b"\n")[0] + b"\n"
        what = "a header field" if _REQUEST_LINE.fullmatch(first_line) else "the request line"
        raise ProtocolError(400, f"{what} is malformed")
    method, target, major, minor, block = match.groups()
    if major != b"1":
        raise ProtocolError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    version = "1.0" if minor == b"0" else "1.1"
    lines = block.decode("latin-1").split("\r\n")
    if len(lines) - 1 > MAX_FIELDS:
        raise ProtocolError(431, f"the request has more than {MAX_FIELDS} header fields")
    headers: dict[str, str] = {}
    for field in lines[:-1]:
        name, _, value = field.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in _ONLY_ONCE:
                raise ProtocolError(400, f"the header field {name} is given twice")
            value = headers[name] + ", " + value
        headers[name] = value
    if version == "1.1" and "host" not in headers:
        raise ProtocolError(400, "the header field host is missing")
    request = Request(method.decode("ascii"), target.decode("ascii"), version, headers, _keeps_alive(version, headers))
    return request, _body_length(version, headers)


def _body_length(version: str, headers: dict[str, str]) -> int:
    # RFC 9112, section 6.3: the framing that smuggling attacks play with.
    encoding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if encoding is not None:
        if length is not None:
            raise ProtocolError(400, "content-length and transfer-encoding exclude each other")
        if version == "1.0":
            raise ProtocolError(400, "HTTP/1.0 has no transfer-encoding")
        if encoding.lower() != "chunked":
            raise ProtocolError(501, "the only transfer-encoding understood is chunked")
        return -1
    if length is None:
        return 0
    if _DIGITS.fullmatch(length) is None:
        raise ProtocolError(400, "content-length is not a number")
    return int(length)


def _keeps_alive(version: str, headers: dict[str, str]) -> bool:
    connection = headers.get("connection")
    if connection is None:
        return version == "1.1"
    options = [option.strip() for option in connection.lower().split(",")]
    if version == "1.0":
        return "keep-alive" in options and "close" not in options
    return "close" not in options
