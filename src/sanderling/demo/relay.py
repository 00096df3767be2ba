"""A TCP relay in front of the server, so that the device's link can be cut for real.

The device knows the relay's ports only. Cutting closes the listening sockets, so
that new connections are refused, and resets those that are open; the server
itself runs on. It is an asyncio loop in a thread of its own, and moves bytes
without looking at them.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

HOSTS = ("127.0.0.1", "::1")
TARGET = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5.0


class Relay:
    """Relays each port of *pairs* (listen, target) to its target; entering starts it, leaving ends it.

    Raises OSError when a port cannot be listened on.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        self._pairs = tuple(pairs)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> "Relay":
        self._thread.start()
        try:
            self.restore()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._end()

    def cut(self) -> None:
        """Refuse new connections and reset those that are open. Nothing happens when it is cut already."""
        self._call(self._cut())

    def restore(self) -> None:
        """Listen again."""
        self._call(self._listen())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._writers) // 2

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        try:
            for port, target in self._pairs:
                for host in HOSTS:
                    await self._listen_one(host, port, target)
        except BaseException:
            await self._cut()
            raise

    async def _listen_one(self, host: str, port: int, target: int) -> None:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._carry(reader, writer, target)

        try:
            self._servers.append(await asyncio.start_server(take, host, port, limit=CHUNK_BYTES))
        except OSError:
            if host == HOSTS[0]:
                raise
            # A machine without IPv6 has no ::1, and needs none.

    async def _cut(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for writer in list(self._writers):
            _reset(writer)
        # The tasks of the connections end by themselves, now that reading fails.
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        self._writers.add(writer)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection(TARGET, target, limit=CHUNK_BYTES)
        except OSError:  # TimeoutError is one
            self._writers.discard(writer)
            _reset(writer)
            return
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))
        finally:
            for one in (writer, far_writer):
                self._writers.discard(one)
                _reset(one)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Drop a connection at once, as a cut cable would in the end: no goodbye, and nothing more is sent."""
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end of the stream, and tell the other side of the end."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
