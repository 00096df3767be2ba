"""Starting and stopping a server.

    hold the data folder -> take the ports -> certificates, database, stages -> serve -> ready
    stop: long polls answer, connections end, workers end, the record is removed: under 3 s

Whatever is not to be had (folder, port) is known before anything is written.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
import uvloop
from sqlalchemy.exc import DatabaseError

from sanderling.durable import ensure_private_folder
from sanderling.errors import Invalid, SanderlingError
from sanderling.sdk.settings import ServerRecord, forget_server, record_server
from sanderling.server.app import create_app
from sanderling.server.database import DataFolder, open_database
from sanderling.server.direct_http import DirectHttp, Lanes
from sanderling.server.listening import PortInUse, listen
from sanderling.server.parts import Parts, join
from sanderling.server.settings import ServerSettings
from sanderling.server.tls import ensure_tls, utc_now

log = logging.getLogger(__name__)

GRACE_S = 1
MAX_CONNECTIONS = 8_000
MAX_FILES = 65_536
THREADS = 32
STALE_UPLOAD_S = 24 * 3600


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
    _allow_many_connections()
    folder = DataFolder(settings.data)
    with ExitStack() as stack:
        stack.callback(folder.release)
        # Of two reasons not to start, the folder in use is the one that helps more.
        if folder.lock_file.exists():
            _acquire(folder)
        https = stack.enter_context(listen(settings.host, settings.port, "--port"))
        mqtt = stack.enter_context(listen(settings.host, settings.mqtt_port, "--mqtt-port"))
        _acquire(folder)
        parts = _prepare(settings.with_ports(_port(https), _port(mqtt)))
        stack.callback(parts.close)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(parts, https, mqtt, ready))


def _allow_many_connections() -> None:
    """Raise the soft limit of open files: its usual 1024 would end at a thousand devices."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _acquire(folder: DataFolder) -> None:
    try:
        folder.acquire()
    except OSError as e:
        raise Invalid(
            f"the data folder {folder.folder} cannot be used ({e.strerror}): choose another with --data"
        ) from e


def _port(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])


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


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the signals are for the whole server, and are taken in `_serve`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Say whether a line of the HTTP server's log is worth writing: that our own stop cut requests off is not."""
    is_cut_off = record.exc_info is not None and record.exc_info[0] is asyncio.CancelledError
    return not is_cut_off and not str(record.msg).startswith("Cancel %s running task")


async def _serve(
    parts: Parts, https: list[socket.socket], mqtt: list[socket.socket], ready: Callable[[ServerInfo], None] | None
) -> None:
    lanes = Lanes()
    config = uvicorn.Config(
        create_app(parts),
        loop="none",
        http=cast("Any", partial(DirectHttp, lanes=lanes)),
        limit_concurrency=MAX_CONNECTIONS,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # request lines may hold what is private
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=lambda _config, _default: parts.tls.server_context(),
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _HttpServer(config)
    logging.getLogger("uvicorn.error").addFilter(_is_news)

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        parts.stopping.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "server"))
    async with AsyncExitStack() as stack:
        stack.callback(lanes.close)
        await stack.enter_async_context(_mqtt(parts, mqtt))
        parts.builds.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(_announce(parts, server, stack, ready))
            group.create_task(_end_builds(parts))
            group.create_task(_keep_house(parts))
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


async def _keep_house(parts: Parts) -> None:
    """End uploads to the registry that nobody goes on with, every hour."""
    while not parts.stopping.is_set():
        try:
            await parts.registry.end_stale_uploads(STALE_UPLOAD_S)
        except Exception:  # one failure must not end the server
            log.exception("stale uploads could not be ended; tried again in an hour")
        with suppress(TimeoutError):
            async with asyncio.timeout(3600):
                await parts.stopping.wait()


async def _announce(
    parts: Parts, server: _HttpServer, stack: AsyncExitStack, ready: Callable[[ServerInfo], None] | None
) -> None:
    while not server.started:
        if server.should_exit:
            return
        await asyncio.sleep(0.01)
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
