"""The packets of MQTT 3.1.1 that a client needs, with no socket (OASIS mqtt-v3.1.1).

Strict in what it takes: flags, lengths and text have to be as the standard says,
and a packet past the limit ends the connection, because a peer that breaks the
framing cannot be followed any further.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

MAX_PACKET_BYTES = 512 * 1024
MAX_TEXT_BYTES = 65535

PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"

_CONNACK, _PUBLISH, _PUBACK, _SUBACK, _PINGRESP = 2, 3, 4, 9, 13


class MqttError(Exception):
    """The peer broke the protocol, or refused."""


class Connack:
    """The server's answer to CONNECT; code 0 is welcome."""

    __slots__ = ("code", "is_session_present")

    def __init__(self, code: int, is_session_present: bool) -> None:
        self.code = code
        self.is_session_present = is_session_present


class Publish:
    """A message; `packet_id` is 0 with QoS 0."""

    __slots__ = ("is_dup", "packet_id", "payload", "qos", "topic")

    def __init__(self, topic: str, payload: bytes, qos: int, packet_id: int, is_dup: bool = False) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.packet_id = packet_id
        self.is_dup = is_dup


class Puback:
    """The peer has taken over our message."""

    __slots__ = ("packet_id",)

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id


class Suback:
    """What was granted for each filter; 0x80 is a refusal."""

    __slots__ = ("codes", "packet_id")

    def __init__(self, packet_id: int, codes: bytes) -> None:
        self.packet_id = packet_id
        self.codes = codes


class Pingresp:
    """The answer to PINGREQ."""

    __slots__ = ()


if TYPE_CHECKING:
    Packet = Union[Connack, Publish, Puback, Suback, Pingresp]


def connect(client_id: str, username: str, password: str, keepalive_s: int) -> bytes:
    """Return CONNECT for a session that outlives the connection (clean_session 0)."""
    flags = 0x80 | 0x40
    body = _text("MQTT") + bytes((4, flags)) + struct.pack(">H", keepalive_s)
    return _packet(0x10, body + _text(client_id) + _text(username) + _text(password))


def subscribe(packet_id: int, topic_filter: str) -> bytes:
    """Return SUBSCRIBE to one filter with QoS 1."""
    return _packet(0x82, struct.pack(">H", packet_id) + _text(topic_filter) + b"\x01")


def publish(packet_id: int, topic: str, payload: bytes) -> bytes:
    """Return PUBLISH with QoS 1."""
    return _packet(0x32, _text(topic) + struct.pack(">H", packet_id) + payload)


def puback(packet_id: int) -> bytes:
    """Return PUBACK."""
    return b"\x40\x02" + struct.pack(">H", packet_id)


class Decoder:
    """Turn the server's bytes into packets; raises MqttError at the first that cannot be."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes and return the packets that are whole now."""
        self._buffer += data
        packets: list[Packet] = []
        start = 0
        while True:
            span = _span(self._buffer, start)
            if span is None:
                break
            body_at, end = span
            packets.append(_decode(self._buffer[start], bytes(self._buffer[body_at:end])))
            start = end
        del self._buffer[:start]
        return packets


def _span(buffer: bytearray, start: int) -> tuple[int, int] | None:
    """Return where the body of the packet at *start* begins and ends, or None while it is not whole."""
    length = 0
    for index in range(4):
        at = start + 1 + index
        if at >= len(buffer):
            return None
        length |= (buffer[at] & 0x7F) << (7 * index)
        if not buffer[at] & 0x80:
            if length > MAX_PACKET_BYTES:
                raise MqttError(f"a packet of {length} bytes exceeds {MAX_PACKET_BYTES}")
            end = at + 1 + length
            return (at + 1, end) if end <= len(buffer) else None
    raise MqttError("a packet's length has more than four bytes")


def _decode(first: int, body: bytes) -> Packet:
    kind, flags = first >> 4, first & 0x0F
    if kind == _PUBLISH:
        return _decode_publish(flags, body)
    if flags:
        raise MqttError(f"packet type {kind} has flags {flags:#x}")
    if kind == _CONNACK and len(body) == 2 and body[0] <= 1:
        return Connack(body[1], bool(body[0]))
    if kind == _PUBACK and len(body) == 2:
        return Puback(_packet_id(body))
    if kind == _SUBACK and len(body) >= 3:
        return Suback(_packet_id(body), body[2:])
    if kind == _PINGRESP and not body:
        return Pingresp()
    raise MqttError(f"packet type {kind} with {len(body)} bytes is not expected from a server")


def _decode_publish(flags: int, body: bytes) -> Publish:
    qos = flags >> 1 & 3
    if qos > 1:
        raise MqttError(f"QoS {qos} was not asked for")
    if len(body) < 2:
        raise MqttError("PUBLISH without a topic")
    topic_end = 2 + int.from_bytes(body[:2], "big")
    body_at = topic_end + 2 * qos
    if body_at > len(body):
        raise MqttError("PUBLISH is shorter than its topic")
    try:
        topic = body[2:topic_end].decode("utf-8")
    except UnicodeDecodeError:
        raise MqttError("a topic is not UTF-8") from None
    if not topic or "\0" in topic or "+" in topic or "#" in topic:
        raise MqttError("a topic is empty or holds NUL or a wildcard")
    packet_id = _packet_id(body[topic_end:body_at]) if qos else 0
    return Publish(topic, body[body_at:], qos, packet_id, bool(flags & 8))


def _packet_id(data: bytes) -> int:
    packet_id = int.from_bytes(data[:2], "big")
    if not packet_id:
        raise MqttError("a packet id is 0")
    return packet_id


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    if len(data) > MAX_TEXT_BYTES:
        raise MqttError(f"a text of {len(data)} bytes exceeds {MAX_TEXT_BYTES}")
    return struct.pack(">H", len(data)) + data


def _packet(first: int, body: bytes) -> bytes:
    head = bytearray((first,))
    length = len(body)
    while True:
        length, low = length >> 7, length & 0x7F
        head.append(low | 0x80 if length else low)
        if not length:
            return bytes(head) + body
