import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from sanderling.demo.sensor import Identity, Reading, Sensor
from sanderling.errors import Denied, Unavailable
from sanderling.iot import sas, topics
from sanderling.mqtt import Connect, ConnectRequested, Publish, Published, ReturnCode, ServerSession, SessionState

KEY = "c2VjcmV0"
IDENTITY = Identity("hub.example:8443", "press-4", "sensor", KEY)


class Gateway:
    """An edge hub's gateway as far as a sensor sees it, with the test server's certificate."""

    def __init__(self, up: Any, return_code: int = 0, ends_after: int | None = None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(up.data / "tls" / "server.pem", up.data / "tls" / "server.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._return_code, self._ends_after = return_code, ends_after
        self.connects: list[Connect] = []
        self.publishes: list[Publish] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self._listener.close()
        self.thread.join(5)

    def _serve(self) -> None:
        plain, _ = self._listener.accept()
        session = ServerSession(now=monotonic())
        with plain, self._context.wrap_socket(plain, server_side=True) as connection:
            while not session.is_closed and (data := connection.recv(65536)):
                for event in session.receive(data, monotonic()):
                    self._take(session, event)
                connection.sendall(session.take_outgoing())
                if self._ends_after is not None and len(self.publishes) >= self._ends_after:
                    return

    def _take(self, session: ServerSession, event: object) -> None:
        match event:
            case ConnectRequested(connect):
                self.connects.append(connect)
                if self._return_code:
                    session.refuse(ReturnCode(self._return_code))
                else:
                    session.accept(connect, SessionState(), session_present=False)
            case Published(publish):
                self.publishes.append(publish)
                if publish.packet_id is not None and self._ends_after is None:
                    session.acknowledge(publish.packet_id)


@pytest.fixture
def gateway(up: Any) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def make(**more: Any) -> Gateway:
        made.append(Gateway(up, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_every_reading_is_acknowledged_and_carries_its_properties(up: Any, gateway: Callable[..., Gateway]) -> None:
    hub = gateway()
    readings = [Reading(b"%d" % n, {"digit": str(n), "a b": "ü&="}) for n in range(200)]
    with Sensor(IDENTITY, hub.port, up.ca_file) as sensor:
        handed_over = sensor.send(readings)
    assert handed_over == sorted(handed_over)
    assert [publish.payload for publish in hub.publishes] == [reading.body for reading in readings]
    told = topics.parse_upward(hub.publishes[7].topic)
    assert isinstance(told, topics.Telemetry)
    assert (told.device_id, told.module_id) == ("press-4", "sensor")
    assert (told.bag["digit"], told.bag["a b"], told.bag["$.on"]) == ("7", "ü&=", "digits")


def test_the_sensor_signs_for_itself_with_its_own_key(up: Any, gateway: Callable[..., Gateway]) -> None:
    hub = gateway()
    with Sensor(IDENTITY, hub.port, up.ca_file):
        pass
    connect = hub.connects[0]
    assert connect.client_id == "press-4/sensor"
    assert connect.password is not None
    token = sas.parse(connect.password.decode())
    sas.verify(token, [KEY], resource_path="devices/press-4/modules/sensor", now=token.expires_at - 1)
    assert KEY not in repr(IDENTITY)


def test_a_refused_sensor_is_denied(up: Any, gateway: Callable[..., Gateway]) -> None:
    hub = gateway(return_code=5)
    with pytest.raises(Denied, match="refuses 'sensor'"), Sensor(IDENTITY, hub.port, up.ca_file):
        pass


def test_a_connection_that_ends_before_the_acknowledgement_is_told(up: Any, gateway: Callable[..., Gateway]) -> None:
    hub = gateway(ends_after=1)
    with Sensor(IDENTITY, hub.port, up.ca_file) as sensor, pytest.raises(Unavailable):
        sensor.send([Reading(b"1", {})])


def test_an_edge_hub_that_is_not_there_is_told_with_its_port(up: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unavailable, match=str(port)), Sensor(IDENTITY, port, up.ca_file):
        pass
