"""One MQTT connection over TLS, for one thread: connect, send, wait for packets.

It keeps itself alive (PINGREQ) and notices a peer that went silent. What packets
mean is the caller's.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time

from sanderling_scoring import mqtt_codec
from sanderling_scoring.mqtt_codec import Connack, MqttError, Pingresp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from sanderling_scoring.mqtt_codec import Packet

CONNECT_TIMEOUT_S = 20.0
KEEPALIVE_S = 60
_REFUSALS = {
    1: "the protocol version is not spoken there",
    2: "the client id is not accepted",
    3: "not available now",
    4: "the user name or token is malformed",
    5: "the token is not accepted; is this device's clock right?",
}


class MqttClient:
    """A connection whose CONNECT was answered with welcome. Raises MqttError or OSError when it is lost."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._decoder = mqtt_codec.Decoder()
        self._out = bytearray()
        self._has_ended = False
        self._sent_at = self._heard_at = time.monotonic()

    def connect(self, client_id: str, username: str, password: str) -> list[Packet]:
        """Send CONNECT and wait for welcome; return what the server sent right behind it."""
        self.send(mqtt_codec.connect(client_id, username, password, KEEPALIVE_S))
        give_up_at = time.monotonic() + CONNECT_TIMEOUT_S
        while True:
            packets = self.wait(max(0.0, give_up_at - time.monotonic()))
            if packets:
                first = packets[0]
                if not isinstance(first, Connack):
                    raise MqttError("the first packet is not CONNACK")
                if first.code:
                    raise MqttError(f"refused with code {first.code}: {_REFUSALS.get(first.code, 'unknown')}")
                return packets[1:]
            if time.monotonic() >= give_up_at:
                raise MqttError("no answer to CONNECT")

    def send(self, data: bytes) -> None:
        """Queue a packet's bytes; `wait` writes them."""
        self._out += data

    def wait(self, timeout_s: float, wake_fd: int = -1) -> list[Packet]:
        """Write and read until packets came, *wake_fd* became readable, or the time is over."""
        now = time.monotonic()
        if now - self._heard_at > KEEPALIVE_S:
            raise MqttError(f"the peer was silent for {KEEPALIVE_S} s")
        if now - self._sent_at > KEEPALIVE_S / 2 and not self._out:
            self.send(mqtt_codec.PINGREQ)
        self._write()
        packets = self._read()  # TLS may hold decrypted bytes that select does not see
        if packets:
            return packets
        readers: list[Any] = [self._sock] if wake_fd < 0 else [self._sock, wake_fd]
        timeout_s = min(timeout_s, KEEPALIVE_S / 4)
        readable, writable, _ = select.select(readers, [self._sock] if self._out else [], [], timeout_s)
        if wake_fd in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_fd, 4096)
        if writable:
            self._write()
        return self._read() if self._sock in readable else []

    def close(self, *, politely: bool) -> None:
        """Close; politely with DISCONNECT."""
        if politely:
            self.send(mqtt_codec.DISCONNECT)
            with contextlib.suppress(OSError):
                self._write()
        self._sock.close()

    def _write(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(bytes(self._out[:65536]))
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                return
            del self._out[:sent]
            self._sent_at = time.monotonic()

    def _read(self) -> list[Packet]:
        packets: list[Packet] = []
        while len(packets) < 64:
            try:
                data = self._sock.recv(65536)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                break
            if not data:
                self._has_ended = True
                break
            self._heard_at = time.monotonic()
            packets.extend(self._decoder.feed(data))
        if self._has_ended and not packets:  # what came before the end still counts
            raise MqttError("the peer closed the connection")
        return [packet for packet in packets if not isinstance(packet, Pingresp)]


def open_tls(host: str, port: int, trust_bundle: str) -> socket.socket:
    """Return a connected, verified, non-blocking TLS socket; raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=trust_bundle)
    raw = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured: Optional[ssl.SSLSocket] = context.wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise
    assert secured is not None
    secured.setblocking(False)
    return secured
