"""Large bodies past the event loop, on real sockets: by length, in chunks, as files; and when it is not to be had."""

import asyncio
import gc
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from sanderling.server import direct_http, http_protocol
from sanderling.server.direct_http import DirectHttp, Lanes
from sanderling.server.tls import ensure_tls, utc_now

pytestmark = pytest.mark.anyio

SIZE = 3_000_001
CONTENT = os.urandom(SIZE)  # more than the sockets hold
DIGEST = hashlib.sha256(CONTENT).hexdigest().encode()


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return "asyncio", {"loop_factory": uvloop.new_event_loop if request.param == "uvloop" else None}


class Hash:
    """A sink that hashes what comes, by either way; with *fails_at*, it fails there."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.hash, self.size, self.fails_at = hashlib.sha256(), 0, fails_at
        self.memory = memoryview(bytearray(100_000))
        self.threads: set[str] = set()

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        self.threads.add(threading.current_thread().name)
        for piece in pieces:
            self.hash.update(piece)
            self.size += len(piece)
        if self.fails_at is not None and self.size > self.fails_at:
            raise OSError("no space")

    def room(self) -> memoryview:
        return self.memory

    def filled(self, count: int) -> None:
        self.write([self.memory[:count]])


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until *is_so*, at most ten seconds."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  # there is no event for what a server or a thread has come to
            await asyncio.sleep(0.01)


class App:
    """PUT answers with the digest of the body, GET with the file; notes what happened."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.notes: list[str] = []
        self.fails_at: int | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            await self.send_file(send, *map(int, scope["query_string"].split(b"-")))
            return
        sink = Hash(self.fails_at)
        try:
            if await scope["extensions"]["sanderling.receive_into"](sink):
                self.notes.append("past the loop")
                assert all(name.startswith("body") for name in sink.threads)
            else:
                self.notes.append("through the loop")
                while (message := await receive())["type"] == "http.request":
                    sink.write([message["body"]])
                    if not message["more_body"]:
                        break
        except ConnectionError as e:
            self.notes.append(f"gone: {e}")
            return
        except OSError:
            await answer(send, 507, b"full")
            return
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise
        await answer(send, 201, sink.hash.hexdigest().encode())

    async def send_file(self, send: Any, offset: int, count: int) -> None:
        headers = [(b"content-length", b"%d" % count)]
        with self.file.open("rb") as file:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.zerocopysend", "file": file, "offset": offset, "count": count})


async def answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app(tmp_path: Path) -> App:
    (tmp_path / "file").write_bytes(CONTENT)
    return App(tmp_path / "file")


@asynccontextmanager
async def serving(app: App, threads: int = 4, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    lanes = Lanes(threads)
    options: dict[str, Any] = {} if tls is None else {"ssl_context_factory": lambda _config, _default: tls}
    http: Any = partial(DirectHttp, lanes=lanes)
    config = uvicorn.Config(
        app, port=0, http=http, ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1, **options
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
        lanes.close()


class Peer:
    """A connection of a client that counts every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, port: int, tls: ssl.SSLContext | None = None) -> "Peer":
        name = None if tls is None else "localhost"
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name))

    def put(self, body: bytes = CONTENT, *, length: int | None = None, more: str = "") -> None:
        size = len(body) if length is None else length
        self.writer.write(f"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n{more}\r\n".encode() + body)

    def put_chunked(self, pieces: Sequence[bytes], after: bytes = b"") -> None:
        self.writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.writer.write(b"0\r\n\r\n" + after)

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            status = int(head.split()[1])
            if status == 100:
                return status, b""
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return status, await self.reader.readexactly(length)

    async def send_endlessly(self, piece: bytes) -> None:
        async with asyncio.timeout(10):
            while True:
                self.writer.write(piece)
                await self.writer.drain()

    async def close(self) -> None:
        self.writer.transport.abort()


async def test_a_body_of_known_length_goes_past_the_loop_and_the_connection_goes_on(app: App) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        for _ in range(3):
            peer.put()
            assert await peer.answer() == (201, DIGEST)
        assert app.notes == ["past the loop"] * 3
        await peer.close()


@pytest.mark.parametrize("size", [1, 70_000, SIZE])
async def test_a_body_in_chunks_goes_past_the_loop_and_the_connection_goes_on(app: App, size: int) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        pieces = [CONTENT[start : start + size] for start in range(0, SIZE if size > 1 else 300, size)]
        for _ in range(2):
            peer.put_chunked(pieces)
            assert await peer.answer() == (201, hashlib.sha256(b"".join(pieces)).hexdigest().encode())
        if size == SIZE:  # what is small has come before anybody asks
            assert app.notes == ["past the loop"] * 2
        await peer.close()


async def test_a_client_that_asks_is_told_to_continue(app: App) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        peer.put(b"", length=SIZE, more="Expect: 100-continue\r\n")
        assert (await peer.answer())[0] == 100
        peer.writer.write(CONTENT)
        assert await peer.answer() == (201, DIGEST)
        await peer.close()


async def test_requests_behind_a_body_of_known_length_are_answered(app: App) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        peer.put()
        peer.put(CONTENT[:100_000])
        peer.put()
        assert await peer.answer() == (201, DIGEST)
        assert await peer.answer() == (201, hashlib.sha256(CONTENT[:100_000]).hexdigest().encode())
        assert await peer.answer() == (201, DIGEST)
        await peer.close()


async def test_a_request_behind_chunks_ends_the_connection_after_the_answer(app: App) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        peer.put_chunked([CONTENT], b"GET /?0-10 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await peer.answer() == (201, DIGEST)
        async with asyncio.timeout(10):
            assert await peer.reader.read() == b""
        await peer.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_client_that_goes_is_noticed(app: App, chunked: bool) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        if chunked:
            peer.writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nxx")
        else:
            peer.put(CONTENT[:500_000], length=SIZE)
        await asyncio.sleep(0.2)
        await peer.close()
        await until(lambda: bool(app.notes))
        assert app.notes[0].startswith("gone: ")


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_client_that_sends_nothing_is_cut_off(app: App, chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_http, "BODY_TIMEOUT_S", 0.2)
    async with serving(app) as port:
        peer = await Peer.of(port)
        if chunked:
            peer.writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nxx")
        else:
            peer.put(CONTENT[:500_000], length=SIZE)
        async with asyncio.timeout(10):
            assert await peer.reader.read() == b""
        await until(lambda: bool(app.notes))
        assert app.notes[0].startswith("gone: ")
        await peer.close()


async def test_chunks_that_are_none_are_refused(app: App) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        peer.writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await asyncio.sleep(0.2)  # until a thread reads
        peer.writer.write(b"zz\r\n")
        assert (await peer.answer())[0] == 400
        async with asyncio.timeout(10):
            assert await peer.reader.read() == b""
        assert app.notes == ["gone: what the client sends is no HTTP"]
        await peer.close()


async def test_endless_chunk_extensions_end_the_connection(app: App) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        peer.writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;")
        with pytest.raises(ConnectionError):
            await peer.send_endlessly(b"x" * http_protocol.MAX_HEAD_BYTES)
        await until(lambda: app.notes == ["gone: the client sends what is no content"])
        await peer.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_when_the_sink_fails_the_rest_is_skipped_and_the_connection_goes_on(app: App, chunked: bool) -> None:
    app.fails_at = 200_000
    async with serving(app) as port:
        peer = await Peer.of(port)
        for _ in range(2):
            if chunked:
                peer.put_chunked([CONTENT])
            else:
                peer.put()
            assert await peer.answer() == (507, b"full")
        app.fails_at = None
        peer.put()
        assert await peer.answer() == (201, DIGEST)
        await peer.close()


@pytest.mark.parametrize(("offset", "count"), [(0, SIZE), (5, 10), (1_000_000, 2_000_001), (7, 0)])
async def test_a_part_of_a_file_is_sent_and_the_connection_goes_on(app: App, offset: int, count: int) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        for _ in range(3):
            peer.writer.write(f"GET /?{offset}-{count} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert await peer.answer() == (200, CONTENT[offset : offset + count])
        await peer.close()


async def test_a_file_that_is_too_short_ends_the_connection(app: App) -> None:
    async with serving(app) as port:
        peer = await Peer.of(port)
        peer.writer.write(f"GET /?10-{SIZE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await peer.answer()
        await peer.close()


async def test_without_a_free_thread_bodies_go_through_the_loop(app: App) -> None:
    async with serving(app, threads=0) as port:
        peer = await Peer.of(port)
        peer.put()
        assert await peer.answer() == (201, DIGEST)
        peer.writer.write(f"GET /?3-{SIZE - 3} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert await peer.answer() == (200, CONTENT[3:])
        assert app.notes == ["through the loop"]
        await peer.close()


async def test_over_tls_bodies_go_through_the_loop(app: App, tmp_path: Path) -> None:
    files = ensure_tls(tmp_path / "tls", ["localhost"], utc_now())
    trusting = ssl.create_default_context(cafile=str(files.ca))
    async with serving(app, tls=files.server_context()) as port:
        peer = await Peer.of(port, trusting)
        peer.put()
        assert await peer.answer() == (201, DIGEST)
        peer.writer.write(f"GET /?3-{SIZE - 3} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert await peer.answer() == (200, CONTENT[3:])
        assert app.notes == ["through the loop"]
        await peer.close()


def body_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("body")}


async def test_a_server_that_stops_ends_the_threads(app: App) -> None:
    before = body_threads()  # of servers that other tests hold
    async with serving(app) as port:
        peer = await Peer.of(port)
        peer.put(CONTENT[:500_000], length=SIZE)
        reading = await Peer.of(port)
        reading.reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that does not read
        reading.writer.write(f"GET /?0-{SIZE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await asyncio.sleep(0.3)
    await until(lambda: app.notes == ["cancelled"])
    await until(lambda: body_threads() <= before)
    await peer.close()
    await reading.close()


async def test_a_job_that_ends_with_its_connection_is_not_told_of_as_lost() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    lanes, (ours, theirs) = Lanes(1), socket.socketpair()

    def job() -> None:
        ours.recv(1)
        raise ConnectionError("gone")

    running = asyncio.create_task(lanes.run(ours, job))
    await until(lambda: lanes.is_full)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    del running
    gc.collect()
    assert not told
    assert not lanes.is_full
    theirs.close()
    lanes.close()
