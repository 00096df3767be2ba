"""uvicorn's HTTP protocol with bounds on what a peer may make us keep or wait for, which it has not.

Nobody can fill our memory, or hold a connection, by what it does not send or read:

- a head that is longer than MAX_HEAD_BYTES, or not whole within HEAD_TIMEOUT_S, ends the connection;
- so does a body of which nothing comes for BODY_TIMEOUT_S while we wait for it;
- so do more than MAX_HEAD_BYTES of a body that are no content (trailers, chunk extensions);
- so does an answer of which nothing is read for ANSWER_TIMEOUT_S, also what is left of one behind the last request;
- of requests that come before the answers to others, MAX_PIPELINED wait; what is behind them is not read.
"""

import asyncio
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 20.0
BODY_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 120.0
# One read of the socket may hold thousands of heads, each of which takes a hundred times its size here.
MAX_PIPELINED = 16


class BoundedHttp(HttpToolsProtocol):
    """One connection. A head begins with the connection, or with the first bytes after a request's end."""

    head_bytes = 0
    is_in_head = True
    head_timer: asyncio.TimerHandle | None = None
    no_content_bytes = 0
    # Of the body, when its length is known. What goes past the parser is counted here, and skipped.
    content_bytes_left: int | None = None
    is_past_parser = False
    heard_at = 0.0
    body_timer: asyncio.TimerHandle | None = None
    answer_timer: asyncio.TimerHandle | None = None
    # What comes now is not read: the connection ends after the answers to what came before.
    is_deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        if self.is_in_head:
            self._expect_head()
            self.head_bytes += len(data)
            # What comes with the end of the head counts too; a read is bounded, so the limit is never far passed.
            if self.head_bytes > MAX_HEAD_BYTES + len(data):
                self._cut_off()
                return
        else:
            # The parser joins a trailer in memory, however long it is; content sets the count back.
            if self.no_content_bytes > MAX_HEAD_BYTES:
                self._cut_off()
                return
            self.no_content_bytes += len(data)
            self.heard_at = asyncio.get_running_loop().time()
        if self.is_past_parser:
            data = self._skip(data)
            if not data:
                return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as e:
            self._ignore_upgrade(data[e.args[0] :])
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 with *rest*, which follows a head that asks for another protocol.

        RFC 9110, section 7.8: a server may ignore the wish. The parser cannot: it takes the body for the other
        protocol's. So another parser reads of that head what says how long the body is.
        """
        framing = (b"content-length", b"transfer-encoding")
        lines = [f"{self.scope['method']} / HTTP/1.1".encode(), b"host: a"]
        lines += [name + b": " + value for name, value in self.headers if name in framing]
        follower = _Follower(self)
        self.parser = _make_parser(follower)
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
        follower.is_past_head = True
        if rest:
            self._parse(rest)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            # RFC 9112, section 9.3.2: who sends ahead must be ready to send again.
            raise ConnectionError("too many requests came before the answers to others")
        super().on_message_begin()

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, but not into the midst of an answer to something that was."""
        if self.is_in_head and self.cycle is not None and not self.cycle.response_complete:
            self.is_deaf = True
            self.cycle.keep_alive = False
            self._cancel(self.head_timer)
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def on_headers_complete(self) -> None:
        # RFC 9112, section 3.2: without it, or with two, two readers of the request see two servers.
        if self.parser.get_http_version() == "1.1" and sum(name == b"host" for name, _ in self.headers) != 1:
            raise ValueError("the request does not name its host once")  # the parser's error: answered with 400
        self._cancel_timers()
        self.is_in_head, self.head_bytes, self.no_content_bytes = False, 0, 0
        self.heard_at = asyncio.get_running_loop().time()
        self._expect_body(BODY_TIMEOUT_S)
        self.content_bytes_left = _content_length(self.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.no_content_bytes = 0
        if self.content_bytes_left is not None:
            self.content_bytes_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # not for us: see `_ignore_upgrade`
        self.is_in_head = True
        if self.body_timer is not None:
            self.body_timer.cancel()
        super().on_message_complete()

    def restart_parser(self) -> None:
        """Parse the next request anew, for the parser has not seen all of this one's body; what is left is skipped."""
        self.parser = _make_parser(self)
        self.is_past_parser = True
        self._skip(b"")

    def _skip(self, data: bytes) -> bytes:
        left = self.content_bytes_left or 0
        skipped = min(left, len(data))
        self.no_content_bytes = 0
        self.content_bytes_left = left - skipped
        if skipped == left:
            self.is_past_parser = False
            self.on_message_complete()
        return data[skipped:]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cancel(self.answer_timer)
        self.answer_timer = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, self._cut_off)

    def resume_writing(self) -> None:
        self._cancel(self.answer_timer)
        self.answer_timer = None
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Too little to pause the writing, and yet it may never be read: a polite close would wait for that.
        if not self.flow.write_paused:
            self._expect_reading()

    def _expect_reading(self) -> None:
        self._cancel(self.answer_timer)
        self.answer_timer = None
        if left := self.transport.get_write_buffer_size():
            self.answer_timer = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, self._check_reading, left)

    def _check_reading(self, before: int) -> None:
        if self.cycle.response_complete and self.transport.get_write_buffer_size() >= before:
            self._cut_off()
        else:
            self._expect_reading()

    def _expect_head(self) -> None:
        if self.head_timer is None:
            self.head_timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT_S, self._cut_off)

    def _expect_body(self, after_s: float) -> None:
        self.body_timer = asyncio.get_running_loop().call_later(after_s, self._check_body)

    def _check_body(self) -> None:
        silent_s = asyncio.get_running_loop().time() - self.heard_at
        if self.flow.read_paused:
            self._expect_body(BODY_TIMEOUT_S)  # it is we who do not read
        elif silent_s < BODY_TIMEOUT_S:
            self._expect_body(BODY_TIMEOUT_S - silent_s + 0.01)
        else:
            self._cut_off()

    def _cut_off(self) -> None:
        self._cancel_timers()
        transport = cast("Any", self.transport)
        # No answer: a polite close would go on reading from someone who goes on sending.
        if not transport.is_closing():
            transport.abort()

    def _cancel_timers(self) -> None:
        for timer in (self.head_timer, self.body_timer, self.answer_timer):
            self._cancel(timer)
        self.head_timer = self.body_timer = self.answer_timer = None

    @staticmethod
    def _cancel(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


class _Follower:
    """Hands on to *protocol* what comes behind the first head."""

    def __init__(self, protocol: BoundedHttp) -> None:
        self._protocol = protocol
        self.is_past_head = False

    def on_message_begin(self) -> None:
        if self.is_past_head:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.is_past_head:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_past_head:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.is_past_head:
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        self._protocol.on_message_complete()


def _make_parser(protocol: object) -> HttpRequestParser:
    parser = HttpRequestParser(protocol)
    # As uvicorn sets it: what follows the last request of a connection is ignored.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the length of the body, as the parser, which has checked them, reads the headers."""
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names or b"content-length" not in names:
        return None
    return int(next(value for name, value in headers if name == b"content-length"))
