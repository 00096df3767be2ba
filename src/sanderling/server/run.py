"""Starting and stopping a server.

    hold the data folder -> take the ports -> certificates, database, stages -> serve -> ready
    stop: long polls answer, connections end, workers end, the record is removed: under 3 s

Whatever is not to be had (folder, port) is known before anything is written.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from sqlalchemy.exc import DatabaseError

from sanderling.durable import ensure_private_folder
from sanderling.errors import Invalid, SanderlingError
from sanderling.sdk.settings import ServerRecord, forget_server, record_server
from sanderling.server.app import create_app
from sanderling.server.database import DataFolder, open_database
from sanderling.server.housekeeping import keep_house
from sanderling.server.http_server import (
    HttpServer,
    allow_many_connections,
    hold,
    make_http_server,
    port_of,
    stop_on_signals,
    use_own_threads,
)
from sanderling.server.listening import PortInUse
from sanderling.server.parts import Parts, join
from sanderling.server.settings import ServerSettings
from sanderling.server.tls import ensure_tls, utc_now

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server that answers. `sign_in_url` works once, within 15 minutes: it is shown to the user only."""

    url: str
    mqtt_port: int
    sign_in_url: str
    ca_path: Path
    data: Path


def run(settings: ServerSettings, ready: Callable[[ServerInfo], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT (when called in the main thread), then return.

    *ready* is called once, in a thread, when the server answers. A second signal stops without grace.
    Raises Conflict when the data folder or a port is in use, Invalid when the folder cannot be used;
    nothing was changed then.
    """
    settings = replace(settings, data=settings.data.absolute())
    allow_many_connections()
    with ExitStack() as stack:
        https, mqtt = hold(
            stack,
            DataFolder(settings.data),
            (settings.host, settings.port, "--port"),
            (settings.host, settings.mqtt_port, "--mqtt-port"),
        )
        parts = _prepare(settings.with_ports(port_of(https), port_of(mqtt)))
        stack.callback(parts.close)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(parts, https, mqtt, ready))


def _prepare(settings: ServerSettings) -> Parts:
    data = settings.data
    ensure_private_folder(data / "secrets")
    tls = ensure_tls(data / "tls", settings.certificate_names(), utc_now())
    database = data / "sanderling.db"
    engine = open_database(database)
    try:
        return join(settings, tls, engine)
    except DatabaseError as e:
        engine.dispose()
        raise Invalid(f"the database {database} cannot be used ({e.orig}): restore it from a backup") from e
    except BaseException:
        engine.dispose()
        raise


async def _serve(
    parts: Parts, https: list[socket.socket], mqtt: list[socket.socket], ready: Callable[[ServerInfo], None] | None
) -> None:
    server = make_http_server(create_app(parts), parts.tls.server_context())
    stop_on_signals(server, parts.stopping)
    use_own_threads()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_mqtt(parts, mqtt))
        parts.builds.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(_announce(parts, server, stack, ready))
            group.create_task(_end_builds(parts))
            group.create_task(
                keep_house(parts.registry, parts.collections, parts.stopping, parts.settings.collect_every_s)
            )
            group.create_task(parts.collections.run(parts.stopping))
            await server.serve(https)
            parts.stopping.set()
            await parts.registry.close()


@asynccontextmanager
async def _mqtt(parts: Parts, held: list[socket.socket]) -> AsyncIterator[None]:
    """Serve MQTT on the port of the *held* sockets, which are let go for it."""
    for one in held:
        one.close()
    settings = parts.settings
    async with AsyncExitStack() as stack:
        server = parts.hub.mqtt_server(settings.host or "", settings.mqtt_port, parts.tls.server_context())
        try:
            await stack.enter_async_context(server)
        except OSError as e:
            raise PortInUse(settings.mqtt_port, "--mqtt-port") from e
        yield


async def _end_builds(parts: Parts) -> None:
    """End builds as soon as the server stops, beside the open connections and not after them."""
    await parts.stopping.wait()
    await asyncio.to_thread(parts.builds.close)


async def _announce(
    parts: Parts, server: HttpServer, stack: AsyncExitStack, ready: Callable[[ServerInfo], None] | None
) -> None:
    if not await server.is_up():
        return
    settings = parts.settings
    stack.enter_context(_recorded(parts))
    if ready is not None:
        code = await asyncio.to_thread(parts.access.create_sign_in_code)
        sign_in_url = f"{settings.url}/sign-in#{code.secret}"
        info = ServerInfo(settings.url, settings.mqtt_port, sign_in_url, parts.tls.ca, settings.data)
        await asyncio.to_thread(ready, info)


@contextmanager
def _recorded(parts: Parts) -> Iterator[None]:
    """Keep this server in the user's record of running servers, which `sanderling init` reads.

    A record that cannot be written is logged and otherwise ignored: the server works without it.
    """
    files = (str(parts.tls.ca.resolve()), str(parts.owner_token_file.resolve()))
    record = ServerRecord(parts.settings.url, *files, os.getpid(), str(parts.settings.data.resolve()))
    try:
        record_server(record)
    except (OSError, SanderlingError) as e:
        log.warning("the record of running servers could not be written (%s): give --url to 'sanderling init'", e)
    try:
        yield
    finally:
        with suppress(OSError, SanderlingError):
            forget_server(record.pid)
