"""One HTTP connection: its parser, what waits to be written, and its deadline.

    IDLE ──bytes──▶ RECEIVING ──whole request──▶ BUSY ──response──▶ IDLE, or closed

One request at a time: what a client pipelines waits in the parser, so answers
keep their order without a queue of their own.
"""

from __future__ import annotations

import socket

from sanderling_scoring.http_parser import RequestParser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Union

    from sanderling_scoring.http_parser import Request

RECEIVE_BYTES = 64 * 1024  # more would make malloc map and unmap memory for every read
MAX_PIPELINED_BYTES = 64 * 1024


class Connection:
    """State of one client; used by the loop's thread alone."""

    __slots__ = (
        "deadline",
        "has_ended",
        "held",
        "interest",
        "is_closed",
        "is_closing",
        "out",
        "parser",
        "request",
        "served",
        "sock",
    )

    def __init__(self, sock: socket.socket, max_body_bytes: int, deadline: float) -> None:
        self.sock = sock
        self.parser = RequestParser(max_body_bytes)
        self.request: Optional[Request] = None  # the one being answered
        self.out: Union[bytes, memoryview] = b""  # a view of what is left: a large answer is not copied at each write
        self.interest = 0
        self.deadline = deadline
        self.held = 0
        self.served = 0
        self.has_ended = False  # the client sends no more
        self.is_closing = False  # close when all is written
        self.is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is received, run or written."""
        return self.request is None and not self.out and self.parser.is_between_requests

    @property
    def takes_bytes(self) -> bool:
        """Whether more bytes should be read: not while enough of them wait behind a request."""
        if self.has_ended or self.is_closing:
            return False
        return self.request is None or self.parser.held_bytes < MAX_PIPELINED_BYTES

    def receive(self) -> Optional[bytes]:
        """Return bytes, b"" at the client's end, or None when there are none now."""
        try:
            return self.sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def write(self, data: bytes) -> bool:
        """Write or keep the bytes; False when the client is gone."""
        if self.out:
            self.out = bytes(self.out) + data
            return True
        return self._send(data)

    def flush(self) -> bool:
        """Write what waits; False when the client is gone."""
        return self._send(self.out) if self.out else True

    def _send(self, data: Union[bytes, memoryview]) -> bool:
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return False
        self.out = memoryview(data)[sent:] if sent < len(data) else b""
        return True
