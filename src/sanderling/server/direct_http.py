"""Bytes of large bodies past the event loop: from the socket to a sink, from a file to the socket.

The event loop hands a body on in small pieces, each with a wake-up. For content of a gigabyte that
costs more than the network. Over a plain connection a thread does better: it reads the socket in large
pieces, or lets the kernel send the file. TLS keeps to the loop, for the cipher is there.

- The parser stays the one that reads HTTP: the thread feeds it, the loop does not, until the body ends.
- A handler asks by ASGI's extensions: the standard `http.response.zerocopysend`, which is always served, and
  `sanderling.receive_into`, which says False when it is not to be had; then the body comes by `receive`.
- The number of threads is bounded: past it bodies go through the loop, slower and no less right.
- The bounds of `BoundedHttp` hold here too; a task that is cancelled ends its thread first.

Source: ASGI specification, "Zero Copy Send".
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from sanderling.server.http_protocol import ANSWER_TIMEOUT_S, BODY_TIMEOUT_S, MAX_HEAD_BYTES, BoundedHttp

THREADS = 64
_RECEIVE_BYTES = 1 << 18
_SEND_BYTES = 1 << 23
_LOOP_READ_BYTES = 1 << 18


class Sink(Protocol):
    """Where a body goes. Blocks; used by one thread at a time."""

    def write(self, pieces: Sequence[bytes]) -> None:
        """Take the next pieces."""

    def room(self) -> memoryview:
        """Return memory to be filled from its start."""

    def filled(self, count: int) -> None:
        """Take the first *count* bytes of the last room."""


class _File(Protocol):
    def fileno(self) -> int: ...


class Lanes:
    """The threads that carry bodies, and how many are at work. One for a server; used by its event loop only."""

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(max(threads, 1), "body")
        self._busy = 0

    @property
    def is_full(self) -> bool:
        """Whether a job would wait."""
        return self._busy >= self._threads

    async def run(self, sock: socket.socket, job: Callable[[], None]) -> None:
        """Run *job*, which works on *sock*, and close *sock*.

        When cancelled, end the connection, wait for the job, which ends with it, and raise.
        """
        self._busy += 1
        running = asyncio.get_running_loop().run_in_executor(self._executor, job)
        running.add_done_callback(partial(self._ended, sock))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            _end(sock)
            await asyncio.wait([running])
            raise

    def _ended(self, sock: socket.socket, running: asyncio.Future[None]) -> None:
        self._busy -= 1
        sock.close()
        if not running.cancelled():
            running.exception()  # is looked at, also when nobody waits any more

    def close(self) -> None:
        """Let the threads go."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class DirectHttp(BoundedHttp):
    """One connection whose large bodies go past the loop. *lanes* are shared by all."""

    def __init__(self, *args: Any, lanes: Lanes, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lanes = lanes
        # While a thread reads: the pieces of content since it last asked, and whether the body has ended.
        self._taken: list[bytes] | None = None
        self._is_taken_whole = False

    def on_headers_complete(self) -> None:
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        extensions: dict[str, Any] = {"http.response.zerocopysend": {}}
        scope["extensions"] = extensions
        super().on_headers_complete()
        cycle = self.cycle
        extensions["sanderling.receive_into"] = partial(self._receive_into, cycle)
        cycle.send = partial(self._send, cycle)  # type: ignore[method-assign]  # run_asgi takes it from the instance

    def on_body(self, body: bytes) -> None:
        if self._taken is None:
            super().on_body(body)
        else:
            self._taken.append(body)

    def on_message_complete(self) -> None:
        if self._taken is None:
            super().on_message_complete()
        else:
            self._is_taken_whole = True

    def on_message_begin(self) -> None:
        if self._taken is not None:
            # Legal, but nobody does it behind a large body; the connection ends after this answer.
            raise ConnectionError("another request came before the answer to this one")
        super().on_message_begin()

    # To the server: the body

    async def _receive_into(self, cycle: RequestResponseCycle, sink: Sink) -> bool:
        """Hand the whole body to *sink*, in a thread; False, and nothing done, when there is none free, or TLS.

        Raises `ConnectionError` when the body does not come whole, and what *sink* raises.
        """
        if self._lanes.is_full or self.scheme != "http" or cycle is not self.cycle or not cycle.more_body:
            return False
        if cycle.disconnected or self.transport.is_closing():
            raise ConnectionError("the client went away")
        if cycle.waiting_for_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        self.flow.pause_reading()
        before, cycle.body = bytes(cycle.body), bytearray()
        if self.content_bytes_left is None:
            await self._receive_chunks(cycle, sink, before)
        else:
            await self._receive_length(sink, before)
        return True

    async def _receive_length(self, sink: Sink, before: bytes) -> None:
        """Content of a known length needs no parser: the sink's own memory is filled."""
        sock = self._duplicate()
        try:
            await self._lanes.run(sock, partial(self._fill, sock, sink, before))
        finally:
            # The parser knows nothing of what went past it. What did not, goes past it in `data_received`.
            self.restart_parser()

    def _fill(self, sock: socket.socket, sink: Sink, before: bytes) -> None:
        if before:
            sink.write([before])
        readable = _poll(sock, select.POLLIN)
        while self.content_bytes_left:
            room, count = sink.room(), 0
            room = room[: self.content_bytes_left]
            try:
                while count < len(room):
                    count += _received(sock, room[count:], readable)
            finally:  # also of a client that went away: it goes on from what came
                self.content_bytes_left -= count
                sink.filled(count)

    async def _receive_chunks(self, cycle: RequestResponseCycle, sink: Sink, before: bytes) -> None:
        self._taken, self._is_taken_whole = [before] if before else [], False
        sock = self._duplicate()
        try:
            await self._lanes.run(sock, partial(self._take, sock, self.parser, sink))
        except httptools.HttpParserError as e:
            cycle.disconnected = True
            if not self.transport.is_closing():
                self.send_400_response("Invalid HTTP request received.")
            raise ConnectionError("what the client sends is no HTTP") from e
        finally:
            self._taken = None
            if self._is_taken_whole:
                super().on_message_complete()

    def _take(self, sock: socket.socket, parser: Any, sink: Sink) -> None:
        view = memoryview(bytearray(_RECEIVE_BYTES))
        readable = _poll(sock, select.POLLIN)
        no_content = 0
        while True:
            pieces, self._taken = self._taken or [], []
            if pieces:
                sink.write(pieces)
            if self._is_taken_whole:
                return
            count = _received(sock, view, readable)
            try:
                parser.feed_data(view[:count])
            except httptools.HttpParserCallbackError:
                if not self._is_taken_whole:
                    raise
                self.cycle.keep_alive = False
            # As in `data_received`: trailers and chunk extensions are kept by the parser.
            no_content = 0 if self._taken else no_content + count
            if no_content > MAX_HEAD_BYTES and not self._is_taken_whole:
                _end(sock)
                raise ConnectionError("the client sends what is no content")

    # From the server: a file

    async def _send(self, cycle: RequestResponseCycle, message: Any) -> None:
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        if self.transport.is_closing():
            # It ended, maybe for what came behind the request, and only the last one is told. uvloop fails where
            # others let go.
            cycle.disconnected = True
        if message["type"] != "http.response.zerocopysend":
            await RequestResponseCycle.send(cycle, message)
            return
        file, offset, count = message["file"], int(message["offset"]), int(message["count"])
        if self.scheme == "http" and not self._lanes.is_full:
            await self._flushed()
            cycle.disconnected = cycle.disconnected or self.transport.is_closing()
        # Others may have taken the last thread meanwhile.
        if self.scheme != "http" or self._lanes.is_full:
            await self._send_through_loop(cycle, file, offset, count)
        elif not cycle.disconnected:
            sock = self._duplicate()
            try:
                await self._lanes.run(sock, partial(_send_file, sock, file.fileno(), offset, count))
            except OSError:
                cycle.disconnected = True
                self._cut_off()
                return
            cycle.expected_content_length -= count
        await RequestResponseCycle.send(
            cycle, {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
        )

    async def _send_through_loop(self, cycle: RequestResponseCycle, file: _File, offset: int, count: int) -> None:
        end = offset + count
        while offset < end and not cycle.disconnected:
            wanted = min(_LOOP_READ_BYTES, end - offset)
            piece = await asyncio.to_thread(os.pread, file.fileno(), wanted, offset)
            if not piece:
                cycle.disconnected = True
                self._cut_off()
                return
            offset += len(piece)
            await self._send(cycle, {"type": "http.response.body", "body": piece, "more_body": True})

    async def _flushed(self) -> None:
        """Wait until the transport holds nothing back, so that what is sent past it comes after; not for ever."""
        pause_s, loop = 0.0, asyncio.get_running_loop()
        until = loop.time() + ANSWER_TIMEOUT_S
        while self.transport.get_write_buffer_size() and not self.transport.is_closing():
            if loop.time() > until:
                self._cut_off()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s + 0.001, 0.05)

    def _duplicate(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))


def _poll(sock: socket.socket, event: int) -> select.poll:
    poll = select.poll()
    poll.register(sock, event)
    return poll


def _received(sock: socket.socket, view: memoryview, readable: select.poll) -> int:
    while True:
        try:
            count = sock.recv_into(view)
        except BlockingIOError:
            if not readable.poll(BODY_TIMEOUT_S * 1000):
                _end(sock)
                raise ConnectionError("the client sent nothing for too long") from None
            continue
        if not count:
            raise ConnectionError("the client went away in the middle of its request")
        return count


def _send_file(sock: socket.socket, file: int, offset: int, count: int) -> None:
    writable = _poll(sock, select.POLLOUT)
    end = offset + count
    while offset < end:
        try:
            sent = os.sendfile(sock.fileno(), file, offset, min(end - offset, _SEND_BYTES))
        except BlockingIOError:
            if not writable.poll(ANSWER_TIMEOUT_S * 1000):
                raise ConnectionError("the client read nothing for too long") from None
            continue
        if not sent:
            raise ConnectionError("the file is shorter than was promised")
        offset += sent


def _end(sock: socket.socket) -> None:
    with suppress(OSError):  # it has ended
        sock.shutdown(socket.SHUT_RDWR)
