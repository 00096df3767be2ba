"""The loop that serves HTTP on a thread of its own: sockets, deadlines, limits, drain.

The rules this file keeps:
- It never runs user code and never blocks, so health answers while run() works.
- Everything is bounded: connections, bytes held for requests, time to receive
  one, time to write one. Past a bound the client is told 408, 413, 431 or 503.
- After `drain` it takes no new connection, finishes every request it has begun
  to receive, and ends.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from collections import deque

from sanderling_scoring import log
from sanderling_scoring.http_connection import Connection
from sanderling_scoring.http_parser import ProtocolError, Request
from sanderling_scoring.http_response import CONTINUE, Clock, Response, encode, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, Protocol

    from sanderling_scoring.settings import Settings

    class Handler(Protocol):
        """What answers requests (sanderling_scoring.routes)."""

        def handle(self, request: Request, deliver: Callable[[Response], None]) -> Optional[Response]: ...
        def sent(self, route: str, status: int) -> None: ...


READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
LINGER_S = 0.25  # how long an idle connection may still begin a request while we drain
DRAIN_S = 4.0
ACCEPTS_PER_TURN = 64


class HttpServer:
    """Serve one listening socket until drained; `wake_r`, `wake_w` are a non-blocking pipe."""

    def __init__(
        self, listener: socket.socket, handler: Handler, settings: Settings, wake: tuple[int, int], tick_s: float
    ) -> None:
        self._listener: Optional[socket.socket] = listener
        self._handler = handler
        self._settings = settings
        self._wake_r, self._wake_w = wake
        self._tick_s = tick_s
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._done: deque[tuple[Connection, Request, Response]] = deque()
        self._clock = Clock()
        self._held_bytes = 0
        self._is_sleeping = False
        self._drain_started: Optional[float] = None
        self.on_tick: Callable[[float], None] = lambda now: None
        self.on_signal: Callable[[int], None] = lambda number: None

    def gauges(self) -> dict[str, float]:
        """Return what the metrics show of this loop."""
        return {"connections": float(len(self._connections)), "held_bytes": float(self._held_bytes)}

    @property
    def drain_until(self) -> float:
        """When a drain gives up, in monotonic seconds."""
        return (self._drain_started or time.monotonic()) + DRAIN_S

    def wake(self) -> None:
        """Let the loop turn; from any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_w, b"\0")

    def serve(self) -> None:
        """Run the loop; returns when drained."""
        assert self._listener is not None
        self._selector.register(self._listener, READ, self._listener)
        self._selector.register(self._wake_r, READ, None)
        swept_at = time.monotonic()
        while not self._is_drained():
            # The flag is set before the last look at what is done: a scorer that
            # adds later sees it and writes to the pipe.
            self._is_sleeping = True
            events = self._selector.select(0 if self._done else self._tick_s)
            self._is_sleeping = False
            now = time.monotonic()
            for key, mask in events:
                if isinstance(key.data, Connection):
                    self._turn(key.data, mask, now)
                elif key.data is None:
                    self._read_wake()
                else:
                    self._accept(now)
            self._write_done(now)
            if now - swept_at >= self._tick_s:
                swept_at = now
                self._sweep(now)
                self.on_tick(now)
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()

    def drain(self) -> None:
        """Stop accepting and end when all that began is answered; on the loop's thread."""
        if self._drain_started is None and self._listener is not None:
            now = time.monotonic()
            self._accept(now)  # who is in the backlog was promised an answer
            self._drain_started = now
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            self._tick_s = min(self._tick_s, 0.05)

    def _is_drained(self) -> bool:
        if self._drain_started is None:
            return False
        waited_s = time.monotonic() - self._drain_started
        if waited_s > DRAIN_S:
            log.warning(f"stopping with {sum(not c.is_idle for c in self._connections)} requests not answered")
            return True
        if waited_s > LINGER_S:
            return all(connection.is_idle for connection in self._connections)
        return not self._connections

    def _read_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._wake_r, 4096):
                if number:
                    self.on_signal(number)

    def _accept(self, now: float) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                assert self._listener is not None
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as e:  # out of file descriptors: existing connections go on
                log.warning(f"cannot accept a connection: {e}")
                return
            sock.setblocking(False)
            connection = Connection(sock, self._settings.max_body_bytes, now + self._settings.idle_timeout_s)
            self._connections.add(connection)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._connections) > self._settings.max_connections:
                self._refuse(connection, 503, "too many connections are open", now)
            else:
                connection.interest = READ
                self._selector.register(sock, READ, connection)

    def _turn(self, connection: Connection, mask: int, now: float) -> None:
        if mask & WRITE and not connection.flush():
            self._close(connection)
            return
        if mask & READ:
            data = connection.receive()
            if data:
                connection.parser.feed(data)
            elif data is not None:
                connection.has_ended = True
        self._advance(connection, now)

    def _advance(self, connection: Connection, now: float) -> None:
        """Answer what is whole, then set what the connection waits for."""
        while connection.request is None and not connection.is_closing and not connection.out:
            try:
                request = connection.parser.next_request()
            except ProtocolError as e:
                self._refuse(connection, e.status, e.message, now)
                break
            if request is None:
                if connection.parser.wants_continue:
                    connection.parser.wants_continue = False
                    connection.write(CONTINUE)
                break
            connection.request = request
            response = self._handler.handle(request, self._deliver_to(connection, request))
            if response is not None:
                self._respond(connection, response, now)
        self._settle(connection, now)

    def _deliver_to(self, connection: Connection, request: Request) -> Callable[[Response], None]:
        def deliver(response: Response) -> None:
            self._done.append((connection, request, response))
            if self._is_sleeping:
                self._is_sleeping = False
                self.wake()

        return deliver

    def _write_done(self, now: float) -> None:
        while self._done:
            connection, request, response = self._done.popleft()
            if not connection.is_closed and connection.request is request:
                self._respond(connection, response, now)
                self._advance(connection, now)

    def _respond(self, connection: Connection, response: Response, now: float) -> None:
        request = connection.request
        assert request is not None
        connection.request = None
        connection.served += 1
        keep_alive = request.keep_alive and self._drain_started is None
        data = encode(
            response, self._clock, keep_alive=keep_alive, version=request.version, is_head=request.method == "HEAD"
        )
        if not keep_alive:
            connection.is_closing = True
        connection.deadline = now + self._settings.receive_timeout_s
        self._handler.sent(response.route, response.status)
        if not connection.write(data):
            self._close(connection)

    def _refuse(self, connection: Connection, status: int, text: str, now: float) -> None:
        """Answer an error of the protocol or of a limit, and close."""
        headers = (("Retry-After", "1"),) if status == 503 else ()
        data = encode(message(status, text, *headers), self._clock, keep_alive=False)
        connection.is_closing = True
        connection.deadline = now + self._settings.receive_timeout_s
        self._handler.sent("other", status)
        if not connection.write(data) or (not connection.out and not connection.interest):
            self._close(connection)

    def _settle(self, connection: Connection, now: float) -> None:
        """Close, or wait for what comes next; count what the connection holds."""
        if connection.is_closed:
            return
        held = connection.parser.held_bytes + len(connection.out)
        if connection.request is not None:
            held += len(connection.request.body)
        self._held_bytes += held - connection.held
        connection.held = held
        is_receiving = connection.request is None and not connection.is_closing
        if is_receiving and self._held_bytes > self._settings.max_held_bytes:
            self._refuse(connection, 503, "too many bytes of requests are held", now)
        if connection.is_closed:
            return
        if connection.is_closing and not connection.out:
            self._close_after_last(connection)
            return
        if connection.has_ended and connection.request is None and not connection.out:
            self._close(connection)
            return
        self._set_deadline(connection, now)
        interest = (READ if connection.takes_bytes else 0) | (WRITE if connection.out else 0)
        if interest != connection.interest:
            self._set_interest(connection, interest)

    def _set_deadline(self, connection: Connection, now: float) -> None:
        if connection.request is not None:
            connection.deadline = float("inf")  # the scorer has its own limit
        elif connection.is_idle:
            connection.deadline = now + self._settings.idle_timeout_s
        elif connection.out or connection.deadline == float("inf") or connection.parser.is_in_body:
            connection.deadline = now + self._settings.receive_timeout_s
        else:  # a head has to come within one limit, however slowly its bytes drip
            connection.deadline = min(connection.deadline, now + self._settings.receive_timeout_s)

    def _set_interest(self, connection: Connection, interest: int) -> None:
        if not connection.interest:
            self._selector.register(connection.sock, interest, connection)
        elif not interest:
            self._selector.unregister(connection.sock)
        else:
            self._selector.modify(connection.sock, interest, connection)
        connection.interest = interest

    def _close_after_last(self, connection: Connection) -> None:
        # With unread bytes a close is a reset, which may overtake our last answer:
        # end our side, and take in for a moment what was on its way.
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_WR)
            for _ in range(4):
                if not connection.sock.recv(65536):
                    break
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.is_closed:
            return
        connection.is_closed = True
        if connection.interest:
            self._selector.unregister(connection.sock)
        connection.sock.close()
        self._connections.discard(connection)
        self._held_bytes -= connection.held

    def _sweep(self, now: float) -> None:
        for connection in [c for c in self._connections if c.deadline <= now]:
            if connection.is_idle or connection.out or connection.is_closing:
                self._close(connection)
            else:
                self._refuse(connection, 408, "the request did not arrive in time", now)
                self._settle(connection, now)
