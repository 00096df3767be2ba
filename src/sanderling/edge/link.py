"""A connection to the hub as one module identity, kept up for ever.

    connect ──▶ twin, messages ──lost, or the token nears its end──▶ wait (jittered, 0.5 s to 30 s) ──▶ connect

Rules: the identity's key comes from the cache, so no REST call is needed to
reconnect; the token is renewed by a new connection well before it expires; what
was sent and not acknowledged is sent again with the same delivery id.
"""

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sanderling.edge.discovery import Discovery
from sanderling.edge.identities import Identities
from sanderling.edge.trouble import why_unreachable
from sanderling.edge.twin_mirror import TwinMirror
from sanderling.errors import Denied, SanderlingError, Unavailable
from sanderling.iot import ConnectionString, identity, sas, topics
from sanderling.mqtt import (
    Acknowledged,
    ClientSession,
    Closed,
    Connect,
    Connected,
    Event,
    Published,
    Refused,
    ReturnCode,
)

_log = logging.getLogger(__name__)

TOKEN_S = 3600.0
_RENEW_AFTER_S = 0.8 * TOKEN_S
_KEEPALIVE_S = 30
_CONNECT_S = 20.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_API = "api-version=2021-04-12"


class Lost(Unavailable):
    """The connection is gone; it is made again."""


class HubLink:
    """The identity `{device}/{module}` at the hub. Give it work through the mirror and the two hooks.

    *pump* is called whenever there may be something to send; it publishes
    through `publish`. *acknowledged* tells it which of that has arrived.
    """

    def __init__(
        self,
        module_id: str,
        connection: ConnectionString,
        identities: Identities,
        discovery: Discovery,
        tls: ssl.SSLContext,
        *,
        on_desired: Callable[[dict[str, Any]], None],
        pump: Callable[["HubLink"], Awaitable[None]] | None = None,
        acknowledged: Callable[[int], None] | None = None,
    ) -> None:
        self.module_id = module_id
        self.mirror = TwinMirror()
        self._connection = connection
        self._identities = identities
        self._discovery = discovery
        self._tls = tls
        self._on_desired = on_desired
        self._pump = pump
        self._acknowledged = acknowledged
        self._session = ClientSession(max_unacked=500)
        self._wake = asyncio.Event()
        self._said = ""

    @property
    def is_connected(self) -> bool:
        """Whether the hub has taken us in."""
        return self._session.is_connected

    def report(self, reported: dict[str, Any]) -> None:
        """Set what the hub shall have as reported properties, now or when it is reached again."""
        if reported != self.mirror.wanted:
            self.mirror.wanted = reported
            self._wake.set()

    def wake(self) -> None:
        """Say that there may be something to send."""
        self._wake.set()

    def publish(self, topic: str, body: bytes) -> int:
        """Send a QoS 1 message; return its packet id. Raises `Unavailable` when too many are under way."""
        packet_id = self._session.publish(topic, body, _now())
        assert packet_id is not None
        return packet_id

    async def run(self) -> None:
        """Keep connected until cancelled."""
        wait_s = _FIRST_WAIT_S
        while True:
            began = _now()
            try:
                await self._connect_and_serve()
                wait_s = 0.0  # renewal
            except (SanderlingError, OSError, TimeoutError) as e:
                if _now() - began > _LONGEST_WAIT_S:
                    wait_s = _FIRST_WAIT_S
                self._say(why_unreachable(e))
                if isinstance(e, Denied):
                    with contextlib.suppress(SanderlingError):
                        await self._identities.sync()
            finally:
                self._session.connection_lost()
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(max(wait_s, _FIRST_WAIT_S) * 2, _LONGEST_WAIT_S)

    def _say(self, why: str) -> None:
        """Log why there is no connection; once, as a day without a link would fill the log."""
        is_news, self._said = why != self._said, why
        _log.log(logging.INFO if is_news else logging.DEBUG, "%s is not connected to the hub: %s", self.module_id, why)

    async def _connect_and_serve(self) -> None:
        connect = await self._credentials()
        port = await self._discovery.fetch_mqtt_port()
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(self._connection.host, port, ssl=self._tls)
        try:
            self._session.connect(connect, _now())
            self._flush(writer)
            renew_at = _now() + _RENEW_AFTER_S
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(reader, writer))
                await self._work(writer, renew_at)
                reading.cancel()
            self._session.disconnect(_now())
            self._flush(writer)
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
                async with asyncio.timeout(2):
                    await writer.wait_closed()

    async def _credentials(self) -> Connect:
        known = await self._identities.ensure(self.module_id)
        device, host = self._identities.device_id, self._connection.host_name
        resource = f"{host}/devices/{device}/modules/{self.module_id}"
        token = sas.build(resource, known.primary_key, int(time.time() + TOKEN_S))
        client_id = identity.client_id(device, self.module_id)
        username = f"{host}/{client_id}/?{_API}"
        return Connect(client_id, False, _KEEPALIVE_S, username, token.encode())

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            for event in self._session.receive(data, _now()):
                self._take(event)
            self._flush(writer)
            self._wake.set()
        raise Lost("the hub closed the connection")

    async def _work(self, writer: asyncio.StreamWriter, renew_at: float) -> None:
        """Send what is due, until the token has to be renewed."""
        while (now := _now()) < renew_at:
            self._wake.clear()
            for event in self._session.tick(now):
                self._take(event)
            if self._session.is_connected:
                due = self.mirror.due(now)
                if due is not None:
                    self._session.publish(due[0], due[1], now, qos=0)
                if self._pump is not None:
                    await self._pump(self)
            self._flush(writer)
            async with asyncio.timeout(_CONNECT_S):
                await writer.drain()
            deadline = min(self._session.deadline or renew_at, renew_at, now + 5.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - _now()) + 0.001):
                    await self._wake.wait()

    def _take(self, event: Event) -> None:
        match event:
            case Connected():
                _log.info("%s is connected to the hub", self.module_id)
                self._said = ""
                self.mirror.connected()
                self._session.subscribe(((topics.TWIN_RESPONSES, 1), (topics.DESIRED_PATCHES, 1)), _now())
            case Refused(return_code=code):
                if code in (ReturnCode.BAD_CREDENTIALS, ReturnCode.NOT_AUTHORIZED):
                    raise Denied(
                        f"the hub refuses {self.module_id!r}: was its key regenerated, or the device disabled?"
                    )
                raise Lost(f"the hub answered the connection with code {code}")
            case Acknowledged(packet_id=packet_id):
                if self._acknowledged is not None:
                    self._acknowledged(packet_id)
            case Published(publish=publish):
                if publish.packet_id is not None:
                    self._session.acknowledge(publish.packet_id, _now())
                self._take_message(publish.topic, publish.payload)
            case Closed(reason=reason):
                raise Lost(f"the connection to the hub is over: {reason}")

    def _take_message(self, topic: str, payload: bytes) -> None:
        try:
            changed = self.mirror.take(topics.parse_downward(topic), payload, _now())
        except SanderlingError as e:
            _log.warning("%s: what the hub sent is not understood: %s", self.module_id, e)
            return
        if changed and self.mirror.desired is not None:
            self._on_desired(self.mirror.desired)

    def _flush(self, writer: asyncio.StreamWriter) -> None:
        data = self._session.take_outgoing()
        if data:
            writer.write(data)


def _now() -> float:
    return time.monotonic()


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
