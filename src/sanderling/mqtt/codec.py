"""Packets to bytes and back.

Rules: what a peer sends is bounded before it is kept (`Decoder` refuses a packet by its length field, before its body
arrives); everything malformed is a `ProtocolError`, after which the connection must be closed; a decoder that has
raised stays broken.
"""

import struct

from sanderling.errors import Invalid
from sanderling.mqtt.filters import is_valid_topic
from sanderling.mqtt.packets import (
    SUBSCRIPTION_REFUSED,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)

# A 256 KiB message and room for the longest topic.
MAX_PACKET_BYTES = 256 * 1024 + 64 * 1024 + 16
_MAX_REMAINING = 268_435_455  # 2.2.3

_CONNECT, _CONNACK, _PUBLISH, _PUBACK = 1, 2, 3, 4
_SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK, _PINGREQ, _PINGRESP, _DISCONNECT = range(8, 15)
_EMPTY: dict[int, Packet] = {_PINGREQ: Pingreq(), _PINGRESP: Pingresp(), _DISCONNECT: Disconnect()}


class ProtocolError(Invalid):
    """The peer broke MQTT 3.1.1; close the connection."""


class PacketTooLarge(ProtocolError):
    """The peer announced a packet over the limit."""

    def __init__(self, *, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"a packet of {size_bytes} bytes is over the limit of {limit_bytes}")
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes


def encode(packet: Packet) -> bytes:
    """Return the bytes of *packet*. Raises ProtocolError when a field cannot be written (text too long, for one)."""
    match packet:
        case Connect():
            return _frame(_CONNECT << 4, _encode_connect(packet))
        case Connack():
            return _frame(_CONNACK << 4, bytes((packet.session_present, packet.return_code)))
        case Publish():
            return _encode_publish(packet)
        case Puback():
            return _frame(_PUBACK << 4, _packet_id(packet.packet_id))
        case Subscribe():
            body = b"".join(_text(name) + bytes((qos,)) for name, qos in packet.filters)
            return _frame(_SUBSCRIBE << 4 | 2, _packet_id(packet.packet_id) + body)
        case Suback():
            return _frame(_SUBACK << 4, _packet_id(packet.packet_id) + bytes(packet.codes))
        case Unsubscribe():
            body = b"".join(_text(name) for name in packet.filters)
            return _frame(_UNSUBSCRIBE << 4 | 2, _packet_id(packet.packet_id) + body)
        case Unsuback():
            return _frame(_UNSUBACK << 4, _packet_id(packet.packet_id))
        case Pingreq():
            return _frame(_PINGREQ << 4, b"")
        case Pingresp():
            return _frame(_PINGRESP << 4, b"")
    return _frame(_DISCONNECT << 4, b"")


class Decoder:
    """Cuts a byte stream into packets, however the stream was split on its way."""

    def __init__(self, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self._max_packet_bytes = max_packet_bytes
        self._buffer = bytearray()
        self._fault: ProtocolError | None = None

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that *data* completes.

        Raises ProtocolError at the first malformed packet. Whole packets before it in the same *data* are lost with
        it: the connection ends here, and a QoS 1 message that got no acknowledgement is sent again.
        """
        if self._fault is not None:
            raise self._fault
        self._buffer += data
        packets: list[Packet] = []
        try:
            while (frame := self._next_frame()) is not None:
                packets.append(_decode(*frame))
        except ProtocolError as fault:
            self._fault = fault
            self._buffer.clear()
            raise
        return packets

    def _next_frame(self) -> tuple[int, bytes] | None:
        length, shift, position = 0, 0, 1
        while True:
            if position >= len(self._buffer):
                return None
            byte = self._buffer[position]
            length |= (byte & 0x7F) << shift
            position += 1
            if not byte & 0x80:
                break
            shift += 7
            if shift > 21:
                raise ProtocolError("the length field of a packet has more than four bytes")
        if length + position > self._max_packet_bytes:
            raise PacketTooLarge(size_bytes=length + position, limit_bytes=self._max_packet_bytes)
        end = position + length
        if len(self._buffer) < end:
            return None
        first, body = self._buffer[0], bytes(self._buffer[position:end])
        del self._buffer[:end]
        return first, body


class _Reader:
    """Reads fields off a packet's body; every read is bounded by what is there."""

    def __init__(self, body: bytes) -> None:
        self._body, self._position = body, 0

    def take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._body):
            raise ProtocolError("a packet ends inside a field")
        taken, self._position = self._body[self._position : end], end
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def packet_id(self) -> int:
        if not (number := self.number()):
            raise ProtocolError("packet identifier 0")  # 2.3.1
        return number

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a text field is not UTF-8") from error
        if "\0" in text:
            raise ProtocolError("a text field holds U+0000")  # 1.5.3
        return text

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._position)

    def is_at_end(self) -> bool:
        return self._position == len(self._body)


def _decode(first: int, body: bytes) -> Packet:
    kind, flags = first >> 4, first & 0x0F
    if kind == _PUBLISH:
        return _decode_publish(flags, _Reader(body))
    if flags != (2 if kind in (_SUBSCRIBE, _UNSUBSCRIBE) else 0):
        raise ProtocolError(f"packet type {kind} with reserved flags {flags}")  # 2.2.2
    reader = _Reader(body)
    packet = _decode_plain(kind, reader)
    if not reader.is_at_end():
        raise ProtocolError(f"packet type {kind} has bytes after its end")
    return packet


def _decode_plain(kind: int, reader: _Reader) -> Packet:
    if kind in _EMPTY:
        return _EMPTY[kind]
    match kind:
        case 1:
            return _decode_connect(reader)
        case 2:
            flags = reader.byte()
            if flags > 1:
                raise ProtocolError("CONNACK with reserved flags")
            return Connack(session_present=bool(flags), return_code=reader.byte())
        case 4:
            return Puback(reader.packet_id())
        case 8:
            return _decode_subscribe(reader)
        case 9:
            packet_id, codes = reader.packet_id(), tuple(reader.rest())
            if any(code > 2 and code != SUBSCRIPTION_REFUSED for code in codes):
                raise ProtocolError("SUBACK with a reserved code")
            return Suback(packet_id, codes)
        case 10:
            packet_id = reader.packet_id()
            names: list[str] = []
            while not names or not reader.is_at_end():
                names.append(reader.text())
            return Unsubscribe(packet_id, tuple(names))
        case 11:
            return Unsuback(reader.packet_id())
        case 5 | 6 | 7:
            raise ProtocolError("QoS 2 is not spoken here; publish with QoS 0 or 1")
    raise ProtocolError(f"packet type {kind} is reserved")


def _decode_subscribe(reader: _Reader) -> Subscribe:
    packet_id = reader.packet_id()
    filters: list[tuple[str, int]] = []
    while not filters or not reader.is_at_end():  # 3.8.3: at least one
        name, qos = reader.text(), reader.byte()
        if qos > 2:
            raise ProtocolError("SUBSCRIBE with a reserved QoS")
        filters.append((name, qos))
    return Subscribe(packet_id, tuple(filters))


def _decode_publish(flags: int, reader: _Reader) -> Publish:
    qos = flags >> 1 & 3
    if qos > 1:
        raise ProtocolError("QoS 2 is not spoken here; publish with QoS 0 or 1")
    dup = bool(flags & 8)
    if dup and not qos:
        raise ProtocolError("a QoS 0 publish cannot be a duplicate")  # 3.3.1.1
    topic = reader.text()
    if not is_valid_topic(topic):
        raise ProtocolError("a message was published to a topic that is empty or holds a wildcard")
    packet_id = reader.packet_id() if qos else None
    return Publish(topic, reader.rest(), qos=qos, packet_id=packet_id, retain=bool(flags & 1), dup=dup)


def _decode_connect(reader: _Reader) -> Connect:
    name, level = reader.text(), reader.byte()
    if name not in ("MQTT", "MQIsdp"):
        raise ProtocolError("CONNECT names another protocol than MQTT")
    if (name, level) != ("MQTT", 4):
        reader.rest()
        return Connect("", protocol_level=level)
    flags = reader.byte()
    if flags & 1:
        raise ProtocolError("CONNECT with reserved flags")
    keepalive_s, client_id = reader.number(), reader.text()
    has_will, will_qos = bool(flags & 4), flags >> 3 & 3
    if will_qos > 2 or (not has_will and flags & 0x38):
        raise ProtocolError("CONNECT with impossible will flags")  # 3.1.2.5 to 3.1.2.7
    will = None
    if has_will:
        topic = reader.text()
        if not is_valid_topic(topic):
            raise ProtocolError("the will's topic is empty or holds a wildcard")
        will = Will(topic, reader.binary(), qos=will_qos, retain=bool(flags & 0x20))
    if flags & 0x40 and not flags & 0x80:
        raise ProtocolError("CONNECT with a password and no user name")  # 3.1.2.9
    return Connect(
        client_id,
        clean_session=bool(flags & 2),
        keepalive_s=keepalive_s,
        will=will,
        username=reader.text() if flags & 0x80 else None,
        password=reader.binary() if flags & 0x40 else None,
    )


def _encode_connect(packet: Connect) -> bytes:
    flags = packet.clean_session << 1
    payload = _text(packet.client_id)
    if (will := packet.will) is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        payload += _text(will.topic) + _binary(will.payload)
    if packet.username is not None:
        flags |= 0x80
        payload += _text(packet.username)
    if packet.password is not None:
        flags |= 0x40
        payload += _binary(packet.password)
    return _text("MQTT") + struct.pack(">BBH", packet.protocol_level, flags, packet.keepalive_s) + payload


def _encode_publish(packet: Publish) -> bytes:
    flags = packet.dup << 3 | packet.qos << 1 | packet.retain
    identifier = b"" if packet.packet_id is None else _packet_id(packet.packet_id)
    return _frame(_PUBLISH << 4 | flags, _text(packet.topic) + identifier + packet.payload)


def _frame(first: int, body: bytes) -> bytes:
    remaining = len(body)
    if remaining > _MAX_REMAINING:
        raise PacketTooLarge(size_bytes=remaining, limit_bytes=_MAX_REMAINING)
    length = bytearray()
    while True:
        remaining, digit = divmod(remaining, 128)
        length.append(digit | (0x80 if remaining else 0))
        if not remaining:
            return bytes((first,)) + length + body


def _packet_id(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _text(text: str) -> bytes:
    try:
        return _binary(text.encode())
    except UnicodeEncodeError as error:
        raise ProtocolError("a text field cannot be written as UTF-8") from error


def _binary(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise ProtocolError(f"a field of {len(data)} bytes is over MQTT's limit of 65,535")
    return len(data).to_bytes(2, "big") + data
