"""HTTP over a UNIX socket with asyncio's own streams.

httpcore takes anyio's, where a read that is cancelled at the moment in which it can
go on raises InvalidStateError in the event loop (anyio 4.16): nothing is lost, but
an error that is none is logged. It is used for as long as httpx keeps its
transport's pool where 0.28 does; elsewhere nothing changes.
"""

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpcore
import httpx


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as e:
            raise httpcore.ReadTimeout(str(e)) from e
        except OSError as e:
            raise httpcore.ReadError(str(e)) from e

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as e:
            raise httpcore.WriteTimeout(str(e)) from e
        except OSError as e:
            raise httpcore.WriteError(str(e)) from e

    async def aclose(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol("a UNIX socket has no TLS")

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of an idle connection: what comes there is its end
            return self._reader.at_eof() or self._writer.is_closing()
        return self._writer.get_extra_info(info)


class _Backend(httpcore.AsyncNetworkBackend):
    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return _Stream(*await asyncio.open_unix_connection(path))
        except TimeoutError as e:
            raise httpcore.ConnectTimeout(str(e)) from e
        except OSError as e:
            raise httpcore.ConnectError(str(e)) from e

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def unix_transport(path: str) -> httpx.AsyncHTTPTransport:
    """Return what speaks HTTP over the UNIX socket at *path*."""
    transport = httpx.AsyncHTTPTransport(uds=path)
    pool: Any = getattr(transport, "_pool", None)
    if hasattr(pool, "_network_backend"):
        pool._network_backend = _Backend()
    return transport
