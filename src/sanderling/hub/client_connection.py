"""One MQTT connection of a device or module.

Rules: telemetry is acknowledged after it is stored, in the order in which it came; a topic or message that cannot be
ends the connection, as it does at IoT Hub; the connection ends with its token; a client that does not read what it is
sent is dropped. While a message is being stored the next ones are read, up to a bound.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from sanderling.errors import Invalid, SanderlingError, Unavailable
from sanderling.hub.errors import DeviceNotOnline, MethodTimeout
from sanderling.hub.identities import Identity
from sanderling.hub.parts import Parts
from sanderling.hub.twins import DesiredChange
from sanderling.iot import Message, documents, topics
from sanderling.iot.identity import EDGE_HUB, client_id
from sanderling.mqtt import (
    SUBSCRIPTION_REFUSED,
    Closed,
    Connect,
    Event,
    Publish,
    Published,
    ServerSession,
    SubscribeRequested,
    UnsubscribeRequested,
)

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_READ_BYTES = 64 * 1024
_MAX_UNSTORED = 100
_MAX_SUBSCRIPTIONS = 50
_MAX_UNREAD_BYTES = 4 * 1024 * 1024


class ClientConnection:
    """A client that has been let in. Runs on one event loop, until the client goes or is dropped."""

    def __init__(
        self,
        parts: Parts,
        identity: Identity,
        connect: Connect,
        session: ServerSession,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        expires_at: float,
    ) -> None:
        self._parts = parts
        self._identity = identity
        self._connect = connect
        self._session = session
        self._reader, self._writer = streams
        self.device_id, self.module_id = identity.device_id, identity.module_id
        self.loop = asyncio.get_running_loop()
        # The token's end on this loop's clock.
        self._expires_at = self.loop.time() + expires_at - parts.clock()
        self._unstored: asyncio.Queue[tuple[int | None, Future[None]]] = asyncio.Queue(_MAX_UNSTORED)
        self._methods: dict[str, asyncio.Future[tuple[int, bytes]]] = {}
        self._name = client_id(self.device_id, self.module_id)

    @property
    def takes_methods(self) -> bool:
        """Whether the client listens to direct methods."""
        return self._session.is_connected and self._session.state.find_qos("$iothub/methods/POST/x/?") is not None

    async def run(self) -> None:
        """Serve the client until the connection ends."""
        async with asyncio.TaskGroup() as group:
            acknowledging = group.create_task(self._acknowledge_stored())
            try:
                await self._handle(self._session.receive(b"", self.loop.time()))  # what came before it was let in
                while not self._session.is_closed:
                    await self._receive()
            finally:
                acknowledging.cancel()
                for waiting in self._methods.values():
                    waiting.cancel()

    def send_desired(self, change: DesiredChange) -> None:
        """Tell the client of new desired properties."""
        topic = topics.desired_patch_topic(change.version)
        self._send(topic, documents.compact({**change.patch, "$version": change.version}), most_qos=1)

    async def invoke(self, name: str, payload: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Invoke a direct method; return the client's status and payload. Raises MethodTimeout, DeviceNotOnline."""
        if not self.takes_methods:
            raise DeviceNotOnline(self._name)
        request_id = secrets.token_hex(8)
        answer: asyncio.Future[tuple[int, bytes]] = self.loop.create_future()
        self._methods[request_id] = answer
        try:
            self._send(topics.method_request_topic(name, request_id), payload, most_qos=0)
            async with asyncio.timeout(timeout_s):
                await asyncio.wait([answer])  # does not cancel it: cancelled means that the connection ended
            if answer.cancelled():
                raise DeviceNotOnline(self._name)
            return answer.result()
        except TimeoutError as error:
            raise MethodTimeout(self._name, timeout_s) from error
        finally:
            del self._methods[request_id]

    def drop(self, reason: str) -> None:
        """Close the connection at once."""
        log.info("%s: dropped: %s", self._name, reason)
        self._session.close()
        self._writer.transport.abort()

    async def _receive(self) -> None:
        timer = asyncio.timeout_at(min(self._session.deadline, self._expires_at))
        try:
            async with timer:
                data = await self._reader.read(_READ_BYTES)
        except OSError as error:  # a socket's own time-out is a TimeoutError as well
            if timer.expired():
                await self._expire()
            else:
                await self._end(f"the connection broke: {error}")
            return
        if data:
            await self._handle(self._session.receive(data, self.loop.time()))
        else:
            await self._end("it left without a word")

    async def _expire(self) -> None:
        if self.loop.time() >= self._expires_at:
            self.drop("its token expired")
        await self._handle(self._session.tick(self.loop.time()))

    async def _end(self, reason: str) -> None:
        await self._handle([Closed(reason)])
        self._session.close()

    async def _handle(self, events: list[Event]) -> None:
        for event in events:
            try:
                await self._handle_one(event)
            except SanderlingError as error:
                self.drop(error.message)  # what was not acknowledged comes again
        self._flush()

    async def _handle_one(self, event: Event) -> None:
        match event:
            case Published():
                if not self._session.is_closed:
                    await self._take_publish(event.publish)
            case SubscribeRequested():
                await self._subscribe(event)
            case UnsubscribeRequested():
                await self._unsubscribe(event)
            case Closed():
                log.info("%s: closed: %s", self._name, event.reason)
                if not event.is_graceful:
                    await self._publish_will()

    async def _take_publish(self, publish: Publish) -> None:
        match topics.parse_upward(publish.topic):
            case topics.Telemetry() as telemetry:
                await self._store(telemetry, publish)
                return
            case topics.TwinGet(request_id):
                await self._answer_twin_get(request_id)
            case topics.ReportedPatch(request_id):
                await self._answer_report(request_id, publish.payload)
            case topics.MethodResponse(status, request_id):
                waiting = self._methods.get(request_id)
                if waiting is not None and not waiting.done():
                    waiting.set_result((status, publish.payload))
        if publish.packet_id is not None:
            done: Future[None] = Future()
            done.set_result(None)
            await self._unstored.put((publish.packet_id, done))  # behind the messages that came before it

    async def _store(self, telemetry: topics.Telemetry, publish: Publish) -> None:
        if telemetry.device_id != self.device_id or not self._may_publish_for(telemetry.module_id):
            raise Invalid(f"{self._name!r} may not publish for {client_id(telemetry.device_id, telemetry.module_id)!r}")
        bag = dict(telemetry.bag)
        if publish.retain:
            bag["mqtt-retain"] = "true"
        message = Message.from_bag(publish.payload, bag, device_id=self.device_id, module_id=telemetry.module_id)
        # Waits when the client is far ahead of the disk, so that it is read no further.
        await self._unstored.put((publish.packet_id, self._parts.events.append_soon(message)))

    def _may_publish_for(self, module_id: str | None) -> bool:
        return module_id == self.module_id or self.module_id == EDGE_HUB

    async def _acknowledge_stored(self) -> None:
        while True:
            packet_id, stored = await self._unstored.get()
            try:
                await asyncio.wrap_future(stored)
            except Unavailable as error:
                # The client sends again what was not acknowledged. Go on, so that the reader is never stuck.
                self.drop(error.message)
                continue
            if packet_id is not None:
                self._session.acknowledge(packet_id)
                self._flush()

    async def _answer_twin_get(self, request_id: str) -> None:
        try:
            twin = await in_thread(self._parts.twins.get, self.device_id, self.module_id)
        except SanderlingError as error:
            # The clients ask again at once, for as long as they are connected.
            await asyncio.sleep(1)
            self._answer(500, request_id, _fault(error))
            return
        document = {"desired": twin.desired.to_device_json(), "reported": twin.reported.to_device_json()}
        self._answer(200, request_id, documents.compact(document))

    async def _answer_report(self, request_id: str, payload: bytes) -> None:
        try:
            patch = documents.parse_object(payload, "the patch of reported properties")
            version = await in_thread(self._parts.twins.report, self.device_id, self.module_id, patch)
        except Invalid as error:
            self._answer(400, request_id, _fault(error))
        else:
            self._answer(204, request_id, b"", version)

    def _answer(self, status: int, request_id: str, payload: bytes, version: int | None = None) -> None:
        self._send(topics.twin_response_topic(status, request_id, version), payload, most_qos=0)

    async def _subscribe(self, event: SubscribeRequested) -> None:
        held = self._session.state.subscriptions
        codes, wanted = [], dict(held)
        for name, qos in event.filters:
            is_allowed = topics.is_allowed_filter(name, self.device_id, self.module_id)
            if is_allowed and (name in wanted or len(wanted) < _MAX_SUBSCRIPTIONS):
                wanted[name] = min(qos, 1)
                codes.append(wanted[name])
            else:
                log.info("%s: subscription to %r refused", self._name, name[:200])
                codes.append(SUBSCRIPTION_REFUSED)
        if wanted != held:
            await self._remember(wanted)
        self._session.grant(event.packet_id, event.filters, tuple(codes))
        self._flush()

    async def _unsubscribe(self, event: UnsubscribeRequested) -> None:
        held = self._session.state.subscriptions
        await self._remember({name: qos for name, qos in held.items() if name not in event.filters})
        self._session.release(event.packet_id, event.filters)
        self._flush()

    async def _remember(self, subscriptions: dict[str, int]) -> None:
        if not self._connect.clean_session:
            await in_thread(self._parts.sessions.save, self.device_id, self.module_id, subscriptions)

    async def _publish_will(self) -> None:
        will = self._connect.will
        if will is None:
            return
        self._connect = replace(self._connect, will=None)
        try:
            telemetry = topics.parse_upward(will.topic)
            if not isinstance(telemetry, topics.Telemetry) or telemetry.device_id != self.device_id:
                raise Invalid(f"{will.topic[:200]!r} is not a topic for a will")
            bag = {**telemetry.bag, "iothub-MessageType": "Will"}
            message = Message.from_bag(will.payload, bag, device_id=self.device_id, module_id=self.module_id)
            await self._parts.events.append(message)
        except (Invalid, Unavailable) as error:
            log.warning("%s: its will was not stored: %s", self._name, error.message)

    def _send(self, topic: str, payload: bytes, *, most_qos: int) -> None:
        qos = self._session.state.find_qos(topic)
        if qos is None or not self._session.is_connected:
            return
        try:
            self._session.publish(topic, payload, qos=min(qos, most_qos))
        except Unavailable as error:
            self.drop(error.message)
        self._flush()

    def _flush(self) -> None:
        data = self._session.take_outgoing()
        if not data or self._writer.transport.is_closing():
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > _MAX_UNREAD_BYTES:
            self.drop("it does not read what it is sent")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what blocks on the database. Raises Unavailable when the database does not do it."""
    try:
        return await asyncio.to_thread(call, *args, **kwargs)
    except SQLAlchemyError as error:
        log.exception("the database failed")
        raise Unavailable(f"the hub's database failed: {type(error).__name__}") from error


def _fault(error: SanderlingError) -> bytes:
    return documents.compact({"errorCode": 400000, "trackingId": "", "message": error.message})
