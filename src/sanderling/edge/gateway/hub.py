"""Joins the parts of the edge hub: endpoint, routes, store, upstream, twins."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sanderling.edge.disk import find_json, write_json
from sanderling.edge.gateway.endpoint import Connections, ModuleConnection
from sanderling.edge.gateway.router import Router
from sanderling.edge.gateway.sign_in import SignIn
from sanderling.edge.gateway.store import UPSTREAM, Store
from sanderling.edge.gateway.twins import ModuleTwins
from sanderling.edge.gateway.upstream import UpstreamPump
from sanderling.edge.identities import Identities
from sanderling.edge.layout import Layout
from sanderling.edge.link import HubLink
from sanderling.errors import Invalid, Unavailable
from sanderling.iot.identity import EDGE_HUB

_log = logging.getLogger(__name__)
_EXPIRE_EVERY_S = 60.0
_MAX_CONNECTIONS = 256

Json = dict[str, Any]
MakeLink = Callable[..., HubLink]


class EdgeHub:
    """The edge hub of one device. Use within `running`."""

    def __init__(self, layout: Layout, identities: Identities, max_store_bytes: int, make_link: MakeLink) -> None:
        """*make_link(module, on_desired=, pump=, acknowledged=)* makes a link to the hub."""
        self.store = Store(layout.hub_database)
        self._identities = identities
        self._desired_file: Path = layout.folder("desired") / "hub.json"
        self._connections = Connections()
        self._router = Router(self.store, max_store_bytes, self._wake)
        self._sign_in = SignIn(identities)
        self._pump = UpstreamPump(self.store, identities.device_id)
        self._make_link = make_link
        self._link = make_link(
            EDGE_HUB, on_desired=self._take_desired, pump=self._pump.pump, acknowledged=self._pump.acknowledged
        )
        self._status: Json = {"code": 417, "description": "no configuration has come yet"}
        self._version: int | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def is_connected_upstream(self) -> bool:
        """Whether messages reach the hub now."""
        return self._link.is_connected

    @asynccontextmanager
    async def running(self, host: str, port: int, tls: ssl.SSLContext) -> AsyncIterator[int]:
        """Serve modules on *host* and *port* (0: a free one) and yield the port; end all connections at the end."""
        kept = find_json(self._desired_file)
        if isinstance(kept, dict):
            self._apply(kept)
        try:
            server = await asyncio.start_server(self._serve, host, port, ssl=tls, limit=65536, start_serving=False)
        except OSError as e:
            await self.store.close()
            raise Unavailable(
                f"the edge hub cannot listen on {host}:{port}: {e.strerror or e}; "
                "choose another with --gateway-port or --gateway-host"
            ) from e
        async with asyncio.TaskGroup() as group:
            self._twins = ModuleTwins(
                self.store, self._connections, group, lambda module, hook: self._make_link(module, on_desired=hook)
            )
            await server.start_serving()
            tasks = [group.create_task(self._link.run()), group.create_task(self._house_keep())]
            try:
                yield int(server.sockets[0].getsockname()[1])
            finally:
                server.close()
                for serving in list(self._serving):
                    serving.cancel()
                await asyncio.gather(*self._serving, return_exceptions=True)
                for task in tasks:
                    task.cancel()
                self._twins.stop()
        await self.store.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._serving) >= _MAX_CONNECTIONS:
            writer.close()
            return
        self._serving.add(task)
        try:
            await ModuleConnection(
                reader,
                writer,
                device_id=self._identities.device_id,
                sign_in=self._sign_in,
                connections=self._connections,
                router=self._router,
                store=self.store,
                twins=self._twins,
            ).serve()
        except asyncio.CancelledError:
            pass  # the server is ending, and nobody waits for this task but `running`
        finally:
            self._serving.discard(task)

    def _wake(self, endpoint: str) -> None:
        if endpoint == UPSTREAM:
            self._link.wake()
        else:
            self._connections.wake(endpoint)

    def _take_desired(self, desired: Json) -> None:
        if set(desired) <= {"$version"}:
            return  # the device was made, and nothing deployed yet
        if self._apply(desired):
            write_json(self._desired_file, desired)

    def _apply(self, desired: Json) -> bool:
        self._version = desired.get("$version")
        try:
            self._router.configure(desired)
        except Invalid as e:
            _log.error("the configuration of the edge hub is refused, the last good one stays: %s", e)
            self._status = {"code": 400, "description": e.message}
            self._report()
            return False
        self._status = {"code": 200, "description": ""}
        self._report()
        return True

    def _report(self) -> None:
        clients = {
            f"{self._identities.device_id}/{module}".replace(".", "%2E").replace("$", "%24").replace(" ", "%20"): {
                "status": "Connected" if is_connected else "Disconnected",
                "lastConnectedTimeUtc" if is_connected else "lastDisconnectedTimeUtc": _stamp(at),
            }
            for module, (is_connected, at) in self._connections.last_seen.items()
        }
        reported: Json = {"schemaVersion": "1.1", "lastDesiredStatus": self._status, "clients": clients}
        if self._version is not None:
            reported["lastDesiredVersion"] = self._version
        self._link.report(reported)

    async def _house_keep(self) -> None:
        last_expired = 0.0
        while True:
            await asyncio.sleep(5.0)
            self._report()
            if time.monotonic() - last_expired >= _EXPIRE_EVERY_S:
                last_expired = time.monotonic()
                with contextlib.suppress(Unavailable):
                    gone = await self.store.expire(time.time())
                    if gone:
                        _log.warning("%d messages outlived their time to live and are dropped", gone)


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
