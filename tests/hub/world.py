"""What the hub's tests share: a clock, a database, a CA, a hub in a thread, a small MQTT client."""

import asyncio
import datetime
import ipaddress
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine, create_engine, event
from starlette.applications import Starlette

from sanderling.hub import Hub
from sanderling.iot import ConnectionString, sas
from sanderling.mqtt import ClientSession, Closed, Connect, Connected, Event, Published, Refused, Subscribed


async def eventually(is_so: Callable[[], bool], timeout_s: float = 5) -> None:
    """Return when *is_so*; raise TimeoutError when it never is."""
    async with asyncio.timeout(timeout_s):
        while not is_so():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_engine(path: Path) -> Engine:
    """Return an engine with the settings that the server gives SQLite."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for setting in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Authority:
    """A throw-away CA with a certificate for one address."""

    def __init__(self, folder: Path, address: str) -> None:
        folder.mkdir(exist_ok=True)
        self.ca_path, self._chain = folder / "ca.pem", folder / "server.pem"
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        ca = self._builder(ca_name, ca_name, ca_key).add_extension(x509.BasicConstraints(True, 0), True)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        leaf = self._builder(name, ca_name, key).add_extension(names, False)
        self.ca_path.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self.key_path = folder / "server.key"
        self.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self._chain.write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self.chain_path = self._chain

    def _builder(self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> Any:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_path, self.key_path)
        return context


class HubInThread:
    """A hub with MQTT over TLS, and REST over TLS when *https* is true, on a loop of its own."""

    def __init__(self, hub: Hub, authority: Authority, address: str, mqtt_port: int, *, https: bool = False) -> None:
        self.hub, self._authority, self._address, self._mqtt_port = hub, authority, address, mqtt_port
        self._https = https
        self.https_port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "HubInThread":
        self._thread.start()
        assert self._ready.wait(15)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(15)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self._error = error
        finally:
            self._ready.set()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _main(self) -> None:
        async with self.hub.mqtt_server(self._address, self._mqtt_port, self._authority.context()):
            async with self._rest():
                self._ready.set()
                await self._stop.wait()

    @asynccontextmanager
    async def _rest(self) -> AsyncIterator[None]:
        if not self._https:
            yield
            return
        server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=self.hub.rest_routes()),
                host=self._address,
                port=0,
                ssl_certfile=self._authority.chain_path,
                ssl_keyfile=self._authority.key_path,
                log_level="warning",
                lifespan="off",
                timeout_keep_alive=30,
            )
        )
        serving = asyncio.create_task(server._serve())
        await eventually(lambda: server.started)
        self.https_port = server.servers[0].sockets[0].getsockname()[1]
        yield
        server.should_exit = True
        await serving


class Device:
    """A small MQTT client on a plain socket, for what the public clients would never send."""

    def __init__(self, session: ClientSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.session, self._reader, self._writer = session, reader, writer
        self.seen: list[Event] = []
        self._clock = asyncio.get_running_loop().time

    @classmethod
    async def connect(cls, port: int, connect: Connect) -> "Device":
        """Connect; the first event (`Connected` or `Refused`, or `Closed` when the hub just closed) is in `seen`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        device = cls(ClientSession(), reader, writer)
        device.session.connect(connect, device._clock())
        await device.flush()
        await device.until(lambda e: isinstance(e, Connected | Refused | Closed))
        return device

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> int | None:
        packet_id = self.session.publish(topic, payload, self._clock(), qos=qos)
        await self.flush()
        return packet_id

    async def subscribe(self, *filters: str) -> tuple[int, ...]:
        self.session.subscribe(tuple((name, 1) for name in filters), self._clock())
        await self.flush()
        event = await self.until(lambda e: isinstance(e, Subscribed))
        assert isinstance(event, Subscribed)
        return event.codes

    async def until(self, fits: Callable[[Event], bool], timeout_s: float = 5) -> Event:
        """Return the next event that fits; a `Closed` event stands for the end of the stream."""
        async with asyncio.timeout(timeout_s):
            while True:
                for position, event in enumerate(self.seen):
                    if fits(event):
                        del self.seen[: position + 1]
                        return event
                try:
                    data = await self._reader.read(65536)
                except ConnectionError:
                    data = b""
                if data:
                    self.seen += self.session.receive(data, self._clock())
                elif any(isinstance(event, Closed) for event in self.seen):
                    raise AssertionError(f"the connection ended; seen: {self.seen}")
                else:
                    self.seen.append(Closed("the stream ended"))

    async def message(self, start: str) -> Published:
        event = await self.until(lambda e: isinstance(e, Published) and e.publish.topic.startswith(start))
        assert isinstance(event, Published)
        return event

    async def ended(self) -> None:
        await self.until(lambda e: isinstance(e, Closed))

    async def flush(self) -> None:
        self._writer.write(self.session.take_outgoing())
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0)


def connect_packet(
    hub: Hub,
    device_id: str,
    module_id: str | None = None,
    *,
    expires_at: int = 1_800_003_600,
    key: str | None = None,
    clean_session: bool = False,
    **fields: Any,
) -> Connect:
    """Return the CONNECT that azure-iot-device would send."""
    if key is None:
        key = ConnectionString.parse(
            hub.device_connection_string(device_id, "hub.example", module_id)
        ).shared_access_key
    assert key is not None
    name = device_id if module_id is None else f"{device_id}/{module_id}"
    resource = f"hub.example/devices/{device_id}" + ("" if module_id is None else f"/modules/{module_id}")
    return Connect(
        client_id=name,
        clean_session=clean_session,
        keepalive_s=60,
        username=f"hub.example/{name}/?api-version=2019-10-01&DeviceClientType=test",
        password=sas.build(resource, key, expires_at).encode(),
        **fields,
    )
