"""A peer that takes the connection and says nothing, and a caller who does not wait for it."""

import asyncio
import ssl

import httpx
import pytest

from sanderling.transfer.handshakes import close_cancelled

pytestmark = pytest.mark.anyio


async def test_a_cancelled_handshake_leaves_no_connection() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        begun.set()
        await reader.read()
        ended.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    client = close_cancelled(httpx.AsyncClient(verify=ssl.create_default_context(), trust_env=False))
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(20):
        asking = asyncio.create_task(client.get(f"https://127.0.0.1:{port}/"))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await ended.wait()  # the client is open still: it is the connection that was closed
    await client.aclose()
    server.close()
    await server.wait_closed()
