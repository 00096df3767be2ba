"""The HTTP server that every command of ours shares: one configuration, one way to start and to stop.

hold: the folder's lock, then the ports; what is not to be had is known before anything is written
make_http_server: uvicorn, bounded, with TLS or without
stop: long polls answer, connections end within GRACE_S
"""

import asyncio
import logging
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import uvicorn

from sanderling.errors import Invalid
from sanderling.server.database import DataFolder
from sanderling.server.direct_http import DirectHttp, Lanes
from sanderling.server.front import App
from sanderling.server.listening import listen

GRACE_S = 1
MAX_CONNECTIONS = 8_000
MAX_FILES = 65_536
THREADS = 32


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the signals are for the whole process, see `stop_on_signals`.

    *lanes* carry large bodies, and end with it.
    """

    def __init__(self, config: uvicorn.Config, lanes: Lanes) -> None:
        super().__init__(config)
        self._lanes = lanes

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on *sockets* until it is told to stop."""
        try:
            await super().serve(sockets)
        finally:
            self._lanes.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def is_up(self) -> bool:
        """Wait until it answers; False when it was told to stop before that."""
        while not self.started:
            if self.should_exit:
                return False
            await asyncio.sleep(0.01)
        return True


def make_http_server(app: App, tls: ssl.SSLContext | None) -> HttpServer:
    """Return a server of *app*; over plain HTTP when *tls* is None."""
    lanes = Lanes()
    config = uvicorn.Config(
        app,
        loop="none",
        http=cast("Any", partial(DirectHttp, lanes=lanes)),
        limit_concurrency=MAX_CONNECTIONS,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # request lines may hold what is private
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return HttpServer(config, lanes)


def use_own_threads() -> None:
    """Give the running loop THREADS threads for what blocks."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "server"))


def stop_on_signals(server: HttpServer, stopping: asyncio.Event) -> None:
    """End *server* and set *stopping* on SIGTERM and SIGINT, in the main thread; a second one ends it without grace."""

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        stopping.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)


def hold(stack: ExitStack, folder: DataFolder, *wanted: tuple[str | None, int, str]) -> list[list[socket.socket]]:
    """Hold *folder* and listen on each (host, port, option) until *stack* ends; return the sockets of each.

    Nothing is written before everything is to be had. Raises what `DataFolder.acquire` and `listen` raise.
    """
    stack.callback(folder.release)
    # Of two reasons not to start, the folder in use is the one that helps more.
    if folder.lock_file.exists():
        _acquire(folder)
    sockets = [stack.enter_context(listen(*one)) for one in wanted]
    _acquire(folder)
    return sockets


def _acquire(folder: DataFolder) -> None:
    try:
        folder.acquire()
    except OSError as e:
        raise Invalid(
            f"the data folder {folder.folder} cannot be used ({e.strerror}): choose another with {folder.option}"
        ) from e


def port_of(sockets: Sequence[socket.socket]) -> int:
    """Return the port that was really bound."""
    return int(sockets[0].getsockname()[1])


def allow_many_connections() -> None:
    """Raise the soft limit of open files: its usual 1024 would end at a thousand devices."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_news(record: logging.LogRecord) -> bool:
    """Say whether a line of the HTTP server's log is worth writing: that our own stop cut requests off is not."""
    is_cut_off = record.exc_info is not None and record.exc_info[0] is asyncio.CancelledError
    return not is_cut_off and not str(record.msg).startswith("Cancel %s running task")
