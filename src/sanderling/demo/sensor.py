"""A sensor on the device: a process of the user's own that sends to the edge hub.

It has a module identity that the edge runtime does not manage, and speaks MQTT
over TLS with the edge hub's gateway, as `azure-iot-device` would: its own key
signs its token, the edge's CA is what it trusts.
"""

import select
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time

from sanderling.errors import Denied, Unavailable
from sanderling.iot import Message, sas
from sanderling.iot.topics import events_topic
from sanderling.mqtt import ClientSession, Closed, Connect, Refused

API_VERSION = "2021-04-12"
TOKEN_S = 3600
KEEPALIVE_S = 60
RECEIVE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the sensor is: the hub it belongs to, its device and module, and its key."""

    hub_host: str
    device_id: str
    module_id: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """One message to send."""

    body: bytes = field(repr=False)
    properties: Mapping[str, str]


class Sensor:
    """A connection to the edge hub; entering connects, leaving disconnects.

    Raises Denied when the edge hub refuses the identity, Unavailable when it does not answer.
    """

    def __init__(self, identity: Identity, port: int, ca_file: Path, host: str = "localhost") -> None:
        self._identity, self._host, self._port, self._ca_file = identity, host, port, ca_file
        self._session = ClientSession(max_unacked=10_000)
        self._socket: ssl.SSLSocket | None = None

    def __enter__(self) -> "Sensor":
        context = ssl.create_default_context(cafile=str(self._ca_file))
        try:
            plain = socket.create_connection((self._host, self._port), timeout=10)
            self._socket = context.wrap_socket(plain, server_hostname=self._host)
        except OSError as error:
            raise Unavailable(f"the edge hub at {self._host}:{self._port} does not answer: {error}") from error
        try:
            self._session.connect(self._connect_packet(), monotonic())
            self._exchange_until(lambda: self._session.is_connected, timeout_s=20)
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._session.disconnect(monotonic())
            with suppress(OSError):  # it may be gone, which is what was to be
                self._socket.sendall(self._session.take_outgoing())
            self._socket.close()
        self._session.connection_lost()

    def send(self, readings: Sequence[Reading], output: str = "digits", timeout_s: float = 60) -> list[float]:
        """Send *readings*, each when the one before is acknowledged; return when (seconds since the epoch).

        All of them are acknowledged, so the edge hub has them on its disk. Raises Unavailable if not in time.
        """
        handed_over = []
        for reading in readings:
            message = Message(
                reading.body,
                self._identity.device_id,
                self._identity.module_id,
                output=output,
                properties=reading.properties,
                system_properties={"contentType": "application/json", "contentEncoding": "utf-8"},
            )
            topic = events_topic(self._identity.device_id, self._identity.module_id, message.encoded_bag())
            handed_over.append(time())
            self._session.publish(topic, reading.body, monotonic())
            self._exchange_until(lambda: not self._session.unacked, timeout_s)
        return handed_over

    def _connect_packet(self) -> Connect:
        who = self._identity
        resource = f"{who.hub_host}/devices/{who.device_id}/modules/{who.module_id}"
        token = sas.build(resource, who.key, int(time()) + TOKEN_S)
        client_id = f"{who.device_id}/{who.module_id}"
        return Connect(
            client_id=client_id,
            clean_session=True,
            keepalive_s=KEEPALIVE_S,
            username=f"{who.hub_host}/{client_id}/?api-version={API_VERSION}",
            password=token.encode(),
        )

    def _exchange_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        deadline = monotonic() + timeout_s
        while not condition():
            if monotonic() > deadline:
                raise Unavailable(
                    f"the edge hub has not acknowledged {len(self._session.unacked)} messages within {timeout_s:.0f} s"
                )
            self._exchange(wait_s=0.2)

    def _exchange(self, wait_s: float) -> None:
        """Write what waits, read what has come."""
        assert self._socket is not None
        try:
            if outgoing := self._session.take_outgoing():
                self._socket.sendall(outgoing)
            ready = self._socket.pending() or select.select([self._socket], [], [], wait_s)[0]
            data = self._socket.recv(RECEIVE_BYTES) if ready else None
        except OSError as error:
            raise Unavailable(f"the connection to the edge hub broke: {error}") from error
        if data == b"":
            raise Unavailable("the edge hub closed the connection")
        events = self._session.receive(data, monotonic()) if data else self._session.tick(monotonic())
        for event in events:
            match event:
                case Refused(return_code):
                    raise Denied(f"the edge hub refuses {self._identity.module_id!r} with MQTT code {return_code}")
                case Closed(reason):
                    raise Unavailable(f"the edge hub's connection ended: {reason}")
                case _:
                    pass  # Connected and Acknowledged change the session, which is what is waited for
