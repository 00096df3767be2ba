"""What a module meets on a device, for tests: an edge hub's MQTT over TLS, and a workload socket.

The protocol is the project's own (`sanderling.mqtt`, `sanderling.iot`); sockets are real.
"""

import base64
import datetime
import http.server
import ipaddress
import json
import select
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sanderling.errors import Denied
from sanderling.iot import sas, topics
from sanderling.mqtt import Acknowledged, ConnectRequested, Published, ReturnCode, ServerSession, SubscribeRequested
from sanderling.mqtt.server_session import SessionState

HUB, DEVICE, MODULE, GENERATION = "hub.test", "d1", "digits", "gen 1"
KEY = base64.b64encode(b"the module's key, held by the runtime").decode()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key; return their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge hub")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = folder / "server.pem", folder / "server.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, key_pem


class _WorkloadHandler(http.server.BaseHTTPRequestHandler):
    bundle: ClassVar[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"certificate": self.bundle} if self.path.startswith("/trust-bundle?api-version=") else None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.startswith(f"/modules/{MODULE}/genid/gen%201/sign?api-version=2020-07-07"):
            self._answer(404, {"message": "no such module"})
            return
        assert body["keyId"] == "primary"
        assert body["algo"] == "HMACSHA256"
        signature = sas.sign(KEY, base64.b64decode(body["data"]))
        self._answer(200, {"digest": base64.b64encode(signature).decode()})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "module"

    def log_message(self, format: str, *args: object) -> None:
        pass


class _WorkloadServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class EdgePeer:
    """An edge hub with one module, on a thread of its own. Its session outlives connections, as MQTT asks."""

    def __init__(self, folder: Path) -> None:
        self.pem, key = make_certificate(folder)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.pem, key)
        handler = type("Handler", (_WorkloadHandler,), {"bundle": self.pem.read_text()})
        self.workload_path = folder / "workload.sock"
        self._workload = _WorkloadServer(str(self.workload_path), handler)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._state = SessionState()
        self._lock = threading.Lock()
        self._session: ServerSession | None = None
        self._is_running = True
        self.connections = 0
        self.usernames: list[str] = []
        self.client_ids: list[str] = []
        self.published: list[tuple[topics.Telemetry, bytes]] = []
        self.acknowledged: list[int] = []
        self.order: list[str] = []
        self.acknowledges_answers = True
        self.refuses_with: ReturnCode | None = None
        self._cut = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, daemon=True),
            threading.Thread(target=self._workload.serve_forever, args=(0.05,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def environment(self) -> dict[str, str]:
        return {
            "IOTEDGE_IOTHUBHOSTNAME": HUB,
            "IOTEDGE_DEVICEID": DEVICE,
            "IOTEDGE_MODULEID": MODULE,
            "IOTEDGE_MODULEGENERATIONID": GENERATION,
            "IOTEDGE_GATEWAYHOSTNAME": "127.0.0.1",
            "IOTEDGE_WORKLOADURI": f"unix://{self.workload_path}",
            "IOTEDGE_APIVERSION": "2020-07-07",
            "IOTEDGE_AUTHSCHEME": "sasToken",
            "SANDERLING_GATEWAY_PORT": str(self.port),
        }

    def send(self, body: bytes, bag: str = "", name: str = "amlInput") -> int:
        """Give the module a message; it stays until acknowledged. Returns its packet id."""
        with self._lock:
            topic = topics.input_topic(DEVICE, MODULE, name, bag)
            assert self._session is not None, "no module is connected"
            packet_id = self._session.publish(topic, body)
            assert packet_id is not None
            return packet_id

    def cut(self) -> None:
        """Close the module's connection without a word."""
        self._cut.set()

    def wait(self, condition: Any, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{self.order} {self.published}"
            time.sleep(0.01)

    def wait_for_module(self, connections: int = 1) -> None:
        self.wait(lambda: self.connections >= connections and self._state.subscriptions)

    def answers(self) -> list[tuple[Mapping[str, str | None], bytes]]:
        return [(telemetry.bag, body) for telemetry, body in self.published]

    def close(self) -> None:
        self._is_running = False
        self._cut.set()
        self._workload.shutdown()
        self._workload.server_close()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(0.05)
        while self._is_running:
            try:
                raw, _ = self._listener.accept()
            except TimeoutError:
                continue
            with raw:
                raw.settimeout(10)
                try:
                    with self._context.wrap_socket(raw, server_side=True) as sock:
                        self._serve_one(sock)
                except OSError:
                    self.order.append("lost")

    def _serve_one(self, sock: ssl.SSLSocket) -> None:
        session = ServerSession(now=time.monotonic())
        self._cut.clear()
        sock.setblocking(False)
        while not session.is_closed and not self._cut.is_set():
            with self._lock:
                outgoing = session.take_outgoing()
            if outgoing:
                sock.setblocking(True)
                sock.sendall(outgoing)
                sock.setblocking(False)
            try:
                data = sock.recv(65536)
                if not data:
                    break
            except ssl.SSLWantReadError:
                select.select([sock], [], [], 0.01)
                continue
            with self._lock:
                for event in session.receive(data, time.monotonic()):
                    self._take(session, event)
        with self._lock:
            outgoing = session.take_outgoing()
            self._session = None
        if outgoing and not self._cut.is_set():
            sock.setblocking(True)
            sock.sendall(outgoing)
        self.order.append("closed")

    def _take(self, session: ServerSession, event: object) -> None:
        match event:
            case ConnectRequested(connect):
                self.usernames.append(connect.username or "")
                self.client_ids.append(connect.client_id)
                try:
                    token = sas.parse((connect.password or b"").decode())
                    path = f"devices/{DEVICE}/modules/{MODULE}"
                    sas.verify(token, [KEY], resource_path=path, now=time.time())
                except Denied:
                    session.refuse(ReturnCode.NOT_AUTHORIZED)
                    return
                if self.refuses_with is not None:
                    session.refuse(self.refuses_with)
                    return
                session.accept(connect, self._state, session_present=bool(self._state.subscriptions))
                self._session = session
                self.connections += 1
                self.order.append("connected")
            case SubscribeRequested(packet_id, filters):
                session.grant(packet_id, filters, tuple(min(qos, 1) for _, qos in filters))
            case Published(publish):
                parsed = topics.parse_upward(publish.topic)
                assert isinstance(parsed, topics.Telemetry)
                assert (parsed.device_id, parsed.module_id) == (DEVICE, MODULE)
                self.published.append((parsed, publish.payload))
                self.order.append("answer")
                if self.acknowledges_answers:
                    assert publish.packet_id is not None
                    session.acknowledge(publish.packet_id)
                    self.order.append("answer acknowledged")
            case Acknowledged(packet_id, _):
                self.acknowledged.append(packet_id)
                self.order.append("input acknowledged")
