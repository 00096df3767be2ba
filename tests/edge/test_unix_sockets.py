import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from sanderling.edge.engines.unix_sockets import unix_transport

pytestmark = pytest.mark.anyio
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server(threading.Thread):
    """Answers each request on a connection of its own thread, when `may_answer` is set; says of what it was asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        self.may_answer = threading.Event()
        self.was_asked = threading.Event()
        self.answer = ANSWER

    def run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(65536):
                self.was_asked.set()
                self.may_answer.wait(30)
                connection.sendall(self.answer)
                if self.answer is not ANSWER:
                    return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "s")
    server.start()
    yield server
    server.may_answer.set()
    server.listening.close()


def client(tmp_path: Path, timeout_s: float = 10) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=unix_transport(str(tmp_path / "s")), base_url="http://x", timeout=timeout_s)


async def test_answers_come_over_one_connection_and_a_cut_or_silence_is_an_error(
    tmp_path: Path, server: Server
) -> None:
    server.may_answer.set()
    async with client(tmp_path) as http:
        assert [(await http.get("/")).text for _ in range(3)] == ["ok"] * 3
        server.answer = ANSWER[:-1]
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/")
        server.answer = ANSWER
        assert (await http.get("/")).text == "ok"
    server.may_answer.clear()
    async with client(tmp_path, 0.2) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/")


async def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/")


async def test_a_read_that_is_cancelled_as_its_answer_comes_leaves_no_error_in_the_loop(
    tmp_path: Path, server: Server
) -> None:
    loop = asyncio.get_running_loop()
    async with client(tmp_path) as http:
        asking = asyncio.create_task(http.get("/"))
        assert await asyncio.to_thread(server.was_asked.wait, 30)
        loop.call_soon(asking.cancel)
        server.may_answer.set()
        time.sleep(0.2)  # noqa: ASYNC251 - the loop finds the answer and the cancelling in one turn
        with pytest.raises(asyncio.CancelledError):
            await asking
