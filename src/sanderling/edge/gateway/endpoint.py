"""One module's connection to the gateway.

    bytes ──▶ session ──▶ publishes ──▶ worker: routes, store, then PUBACK; twin requests
                     └──▶ acks ──▶ pump: deletes what arrived, sends what waits

Three tasks: reading goes on while a publish waits for the disk, so that the
acknowledgements that would free the disk are always heard. The publishes that
wait are bounded; beyond that reading stops, and the module's socket fills up.
"""

import asyncio
import contextlib
import hashlib
import logging
import ssl
import time
from collections import OrderedDict
from typing import Protocol

from sanderling.edge.gateway.router import Router, read_message
from sanderling.edge.gateway.sign_in import Refusal, SignedIn, SignIn
from sanderling.edge.gateway.store import Store, StoreFull
from sanderling.errors import Invalid, Unavailable
from sanderling.iot import Message, topics
from sanderling.mqtt import (
    SUBSCRIPTION_REFUSED,
    Acknowledged,
    Closed,
    Connect,
    ConnectRequested,
    Event,
    Publish,
    Published,
    ReturnCode,
    ServerSession,
    SessionState,
    SubscribeRequested,
    UnsubscribeRequested,
)

_log = logging.getLogger(__name__)

_WINDOW = 20
_MAX_WAITING = 64
_FULL_WAIT_S = 20.0
_GRACE_S = 300.0  # a token's end, when clocks differ and renewal takes a moment
_REMEMBERED = 1000


class Twins(Protocol):
    """What answers a module's twin requests."""

    async def get(self, module_id: str) -> bytes:
        """Return the twin's JSON."""
        ...

    async def patch_reported(self, module_id: str, body: bytes) -> int:
        """Merge a patch; return the new version. Raises `Invalid`."""
        ...


class Connections:
    """The modules that are connected, one connection each: a new one ends the old."""

    def __init__(self) -> None:
        self.by_module: dict[str, ModuleConnection] = {}
        self.last_seen: dict[str, tuple[bool, float]] = {}
        # What each module's last publishes were, to know one that is sent again because our PUBACK was lost.
        self.acknowledged: dict[str, OrderedDict[int, bytes]] = {}

    def wake(self, module_id: str) -> None:
        """Say that there may be something for *module_id*."""
        connection = self.by_module.get(module_id)
        if connection is not None:
            connection.wake()

    def join(self, module_id: str, connection: "ModuleConnection") -> None:
        """Take in a connection."""
        old = self.by_module.get(module_id)
        if old is not None:
            _log.info("module %r connects anew; its older connection is closed", module_id)
            old.abort()
        self.by_module[module_id] = connection
        self.last_seen[module_id] = (True, time.time())

    def leave(self, module_id: str, connection: "ModuleConnection") -> None:
        """Forget a connection."""
        if self.by_module.get(module_id) is connection:
            del self.by_module[module_id]
            self.last_seen[module_id] = (False, time.time())


class ModuleConnection:
    """Serves one socket until it ends."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        device_id: str,
        sign_in: SignIn,
        connections: Connections,
        router: Router,
        store: Store,
        twins: Twins,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._device_id = device_id
        self._sign_in = sign_in
        self._connections = connections
        self._router = router
        self._store = store
        self._twins = twins
        self._session = ServerSession(now=time.monotonic())
        self._publishes: asyncio.Queue[Publish] = asyncio.Queue(_MAX_WAITING)
        self._wake = asyncio.Event()
        self._under_way: dict[int, int] = {}  # packet id -> row
        self._arrived: list[int] = []
        self._who: SignedIn | None = None

    def wake(self) -> None:
        """Say that there may be something to send."""
        self._wake.set()

    def abort(self) -> None:
        """End the connection at once."""
        self._session.close()
        self._writer.transport.abort()
        self._wake.set()

    def publish_desired(self, version: int, body: bytes) -> None:
        """Send a patch of desired properties, when the module has subscribed to them."""
        topic = topics.desired_patch_topic(version)
        qos = self._session.state.find_qos(topic)
        if self._session.is_connected and qos is not None:
            self._session.publish(topic, body, qos=0)
            self._flush()

    async def serve(self) -> None:
        """Serve until either side ends it."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._work()), group.create_task(self._pump())]
                await self._read()
                for task in tasks:
                    task.cancel()
        except* (OSError, TimeoutError, ssl.SSLError) as e:
            _log.debug("a module's connection ended: %s", e.exceptions)
        except* Unavailable as e:
            _log.warning("module %r is disconnected: %s", self._who and self._who.module_id, e.exceptions[0])
        finally:
            if self._who is not None:
                self._connections.leave(self._who.module_id, self)
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._writer.wait_closed()

    async def _read(self) -> None:
        while not self._session.is_closed:
            left = min(self._session.deadline - time.monotonic(), self._token_left_s())
            try:
                async with asyncio.timeout(max(left, 0.01)):
                    data = await self._reader.read(65536)
            except TimeoutError:
                if self._token_left_s() <= 0 or self._session.tick(time.monotonic()):
                    return
                continue
            if not data:
                return
            for event in self._session.receive(data, time.monotonic()):
                await self._take(event)
            # What came right behind CONNECT has waited for the answer (MQTT 3.1.1, 3.1.4).
            for event in self._session.receive(b"", time.monotonic()):
                await self._take(event)
            self._flush()
            async with asyncio.timeout(60):
                await self._writer.drain()

    def _token_left_s(self) -> float:
        return 3600.0 if self._who is None else self._who.expires_at + _GRACE_S - time.time()

    async def _take(self, event: Event) -> None:
        match event:
            case ConnectRequested(connect=connect):
                await self._connect(connect)
            case Published(publish=publish):
                await self._publishes.put(publish)
            case Acknowledged(packet_id=packet_id):
                row = self._under_way.pop(packet_id, None)
                if row is not None:
                    self._arrived.append(row)
                    self._wake.set()
            case SubscribeRequested(packet_id=packet_id, filters=filters):
                codes = tuple(self._granted(name, qos) for name, qos in filters)
                self._session.grant(packet_id, filters, codes)
                await self._keep_subscriptions()
            case UnsubscribeRequested(packet_id=packet_id, filters=filters):
                self._session.release(packet_id, filters)
                await self._keep_subscriptions()
            case Closed(reason=reason):
                _log.info("module %r: %s", self._who and self._who.module_id, reason)

    async def _connect(self, connect: Connect) -> None:
        try:
            who = await self._sign_in.check(connect)
        except Refusal as e:
            _log.warning("a connection is refused: %s", e)
            self._session.refuse(e.return_code)
            return
        try:
            filters = {} if connect.clean_session else await self._store.subscriptions(who.module_id)
        except Unavailable:
            self._session.refuse(ReturnCode.SERVER_UNAVAILABLE)
            return
        self._who = who
        self._connections.join(who.module_id, self)
        # What was not acknowledged comes from the store again: there it survives a restart too.
        self._session.accept(connect, SessionState(dict(filters)), session_present=bool(filters))
        _log.info("module %r is connected", who.module_id)
        self._wake.set()

    def _granted(self, name: str, qos: int) -> int:
        assert self._who is not None
        allowed = topics.is_allowed_filter(name, self._device_id, self._who.module_id)
        return min(qos, 1) if allowed else SUBSCRIPTION_REFUSED

    async def _keep_subscriptions(self) -> None:
        assert self._who is not None
        await self._store.set_subscriptions(self._who.module_id, self._session.state.subscriptions)
        self._wake.set()

    async def _work(self) -> None:
        """Handle publishes in their order, as many together as have come."""
        while True:
            publishes = [await self._publishes.get()]
            while len(publishes) < _MAX_WAITING and not self._publishes.empty():
                publishes.append(self._publishes.get_nowait())
            assert self._who is not None
            understood: list[tuple[Publish, Message | None]] = []
            for publish in publishes:
                is_repeated = self._was_acknowledged(publish)
                message = None if is_repeated else await self._understand(self._who.module_id, publish)
                understood.append((publish, message))
            try:
                await self._router.accept([message for _, message in understood if message is not None])
            except StoreFull:
                await self._accept_slowly(understood)
            else:
                self._acknowledge(publishes)

    async def _accept_slowly(self, understood: list[tuple[Publish, Message | None]]) -> None:
        """Keep one message at a time, and wait a while when there is no room; then the connection ends.

        The module keeps what is not acknowledged, and sends it again when it is back.
        """
        until = time.monotonic() + _FULL_WAIT_S
        for publish, message in understood:
            while message is not None:
                try:
                    await self._router.accept([message])
                except StoreFull:
                    if time.monotonic() > until:
                        raise
                    await asyncio.sleep(0.2)
                else:
                    break
            self._acknowledge([publish])

    def _acknowledge(self, publishes: list[Publish]) -> None:
        for publish in publishes:
            if publish.packet_id is not None:
                self._remember(publish)
                self._session.acknowledge(publish.packet_id)
        self._flush()

    async def _understand(self, module: str, publish: Publish) -> Message | None:
        """Return the message that *publish* is; None when it was something else and is dealt with.

        What cannot be understood ends the connection, as in IoT Hub.
        """
        try:
            match topics.parse_upward(publish.topic):
                case topics.Telemetry(device_id=device, module_id=named, bag=bag):
                    if (device, named) != (self._device_id, module):
                        raise Invalid(f"it publishes as {device}/{named}, which it is not")
                    return read_message(device, module, dict(bag), publish.payload)
                case topics.TwinGet(request_id=request_id):
                    body = await self._twins.get(module)
                    self._session.publish(topics.twin_response_topic(200, request_id), body, qos=0)
                case topics.ReportedPatch(request_id=request_id):
                    await self._patch(module, request_id, publish.payload)
                case topics.MethodResponse():
                    pass  # nobody here has asked
        except Invalid as e:
            raise Unavailable(f"what it published is not understood: {e.message}") from e
        return None

    async def _patch(self, module: str, request_id: str, body: bytes) -> None:
        try:
            version = await self._twins.patch_reported(module, body)
        except Invalid as e:
            _log.info("module %r: its reported properties are refused: %s", module, e)
            self._session.publish(topics.twin_response_topic(400, request_id), b"", qos=0)
        else:
            self._session.publish(topics.twin_response_topic(204, request_id, version), b"", qos=0)

    def _was_acknowledged(self, publish: Publish) -> bool:
        if not publish.dup or publish.packet_id is None or self._who is None or not _has_message_id(publish):
            return False
        known = self._connections.acknowledged.get(self._who.module_id, OrderedDict())
        return known.get(publish.packet_id) == _mark(publish)

    def _remember(self, publish: Publish) -> None:
        assert self._who is not None
        assert publish.packet_id is not None
        known = self._connections.acknowledged.setdefault(self._who.module_id, OrderedDict())
        known[publish.packet_id] = _mark(publish)
        known.move_to_end(publish.packet_id)
        while len(known) > _REMEMBERED:
            known.popitem(last=False)

    async def _pump(self) -> None:
        """Send what waits for the module's inputs, in order, at most a window unacknowledged."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._arrived:
                arrived, self._arrived = self._arrived, []
                await self._store.delete(arrived)
            if not self._session.is_connected or self._who is None or not self._listens():
                continue
            room = _WINDOW - len(self._under_way)
            if not room:
                continue
            module = self._who.module_id
            # What has arrived since the deletion is still in the store, and must not be sent again.
            sent = [*self._under_way.values(), *self._arrived]
            for stored in await self._store.take(module, sent, room):
                message, name = stored.message, stored.input or ""
                topic = topics.input_topic(self._device_id, module, name, _input_bag(message))
                if self._session.state.find_qos(topic) is None:
                    continue
                packet_id = self._session.publish(topic, message.body)
                assert packet_id is not None
                self._under_way[packet_id] = stored.id
            self._flush()
            async with asyncio.timeout(60):
                await self._writer.drain()

    def _listens(self) -> bool:
        return any("/inputs/" in name for name in self._session.state.subscriptions)

    def _flush(self) -> None:
        data = self._session.take_outgoing()
        if data and not self._writer.is_closing():
            self._writer.write(data)


def _has_message_id(publish: Publish) -> bool:
    """Say whether equal bytes are the same message.

    Clients count packet ids anew, and a sensor may say the same thing again: without an id of its
    own a publish that is sent again is kept twice rather than lost (MQTT 3.1.1, 4.3.2).
    """
    with contextlib.suppress(Invalid):
        parsed = topics.parse_upward(publish.topic)
        return isinstance(parsed, topics.Telemetry) and bool(parsed.bag.get("$.mid"))
    return False


def _mark(publish: Publish) -> bytes:
    return hashlib.sha256(publish.topic.encode() + b"\0" + publish.payload).digest()


def _input_bag(message: Message) -> str:
    """Return the bag that a module sees: with who sent it, without what is between the hubs."""
    system = dict(message.system_properties) | {"connectionDeviceId": message.device_id}
    if message.module_id is not None:
        system["connectionModuleId"] = message.module_id
    shown = Message(
        message.body,
        message.device_id,
        message.module_id,
        message.output,
        message.properties,
        system,
    )
    return shown.encoded_bag()
