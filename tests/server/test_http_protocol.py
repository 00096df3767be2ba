"""Peers that stall, or send without end, on a real socket."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from sanderling.server import http_protocol
from sanderling.server.http_protocol import BoundedHttp


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, then answer; `/large` with more than a socket holds."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(2000 if scope["path"] == "/large" else 1):
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    config = uvicorn.Config(app, http=BoundedHttp, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server.serve([listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await task


async def is_cut_off(port: int, sent: bytes, more: Callable[[], bytes] = lambda: b"") -> bool:
    """Send, go on with *more*, read nothing; say whether the server ended it within seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    until = time.monotonic() + 5
    try:
        while time.monotonic() < until:
            writer.write(more())
            await asyncio.wait_for(writer.drain(), 1)
            await asyncio.sleep(0.02)
            if reader.at_eof():
                return True
    except (ConnectionError, TimeoutError):
        return True
    finally:
        writer.transport.abort()
    return False


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.anyio
async def test_a_body_that_stalls_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT_S", 0.3)
    async with serving() as port:
        assert await is_cut_off(port, HEAD + b"Content-Length: 1000\r\n\r\npart")


@pytest.mark.anyio
async def test_a_body_that_comes_slowly_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT_S", 0.3)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 6\r\n\r\n")
        for _ in range(6):
            await asyncio.sleep(0.15)
            writer.write(b"x")
        assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 200 OK\r\n"
        writer.transport.abort()


@pytest.mark.anyio
async def test_trailers_without_end_end_the_connection() -> None:
    async with serving() as port:
        begun = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        assert await is_cut_off(port, begun, lambda: b"".join(b"a%d: %s\r\n" % (n, b"b" * 1000) for n in range(64)))


@pytest.mark.anyio
async def test_an_answer_that_nobody_reads_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "ANSWER_TIMEOUT_S", 0.3)
    async with serving() as port:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(1.5)
            raw.settimeout(5)
            # What the kernel holds still comes, then the end or the reset.
            assert await asyncio.to_thread(count, raw) < 2000 * 65536


def count(raw: socket.socket) -> int:
    received = 0
    try:
        while piece := raw.recv(1 << 20):
            received += len(piece)
    except ConnectionError:
        pass
    return received


@pytest.mark.anyio
async def test_requests_sent_far_ahead_of_the_answers_take_no_memory() -> None:
    request = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(request % n for n in range(2000)))
        with suppress(ConnectionError):
            answers = (await asyncio.wait_for(reader.read(), 5)).count(b"HTTP/1.1 200 OK")
        assert 1 <= answers <= 2 * http_protocol.MAX_PIPELINED
        writer.transport.abort()


@pytest.mark.anyio
async def test_what_is_no_http_does_not_get_into_the_answer_to_what_was() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readexactly(100)
        writer.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        rest = await asyncio.wait_for(reader.read(), 20)
        assert b"400" not in rest
        assert rest.endswith(b"\r\n0\r\n\r\n")
        writer.transport.abort()


@pytest.mark.anyio
async def test_the_end_of_an_answer_that_nobody_reads_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "ANSWER_TIMEOUT_S", 0.3)
    protocols: list[BoundedHttp] = []
    made = BoundedHttp.connection_made

    def note(self: BoundedHttp, transport: asyncio.Transport) -> None:
        # All that is not sent at once is less than what pauses the writing.
        transport.set_write_buffer_limits(1 << 30)
        protocols.append(self)
        made(self, transport)

    monkeypatch.setattr(BoundedHttp, "connection_made", note)
    async with serving() as port:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            async with asyncio.timeout(5):
                while not protocols or not protocols[0].transport.is_closing():  # noqa: ASYNC110  # no event for it
                    await asyncio.sleep(0.02)


FRAMED = {
    "none": (b"", b""),
    "by length": (b"Content-Length: 5\r\n", b"hello"),
    "in chunks": (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("framed", FRAMED)
@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_wish_for_another_protocol_is_ignored(framed: str, is_cut: bool) -> None:
    """RFC 9110, section 7.8. curl --http2 and Java's client send it with their first request over plain HTTP."""
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    head, body = FRAMED[framed]
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for _ in range(2):  # the connection goes on
            writer.write(HEAD + wish + head + b"\r\n")
            if is_cut:
                await asyncio.sleep(0.05)
            writer.write(body)
        async with asyncio.timeout(5):
            for _ in range(2):
                assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
                await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.transport.abort()
