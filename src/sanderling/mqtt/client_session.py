"""The client's side of an MQTT session that lives through many connections.

    idle ──connect──▶ connecting ──CONNACK 0──▶ connected ──lost, refused, ping unanswered──▶ idle ──connect──▶ ...

Rules: a QoS 1 message is kept from `publish` until its acknowledgement; on each new connection what is kept is sent
again in its old order, with DUP if it was sent before (4.4); a ping goes out when nothing was sent for a keepalive,
and a server that answers nothing within *answer_timeout_s* is dead.
"""

from dataclasses import replace

from sanderling.errors import Unavailable
from sanderling.mqtt.codec import MAX_PACKET_BYTES, Decoder, ProtocolError, encode
from sanderling.mqtt.events import Acknowledged, Closed, Connected, Event, Published, Refused, Subscribed, Unsubscribed
from sanderling.mqtt.packets import (
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
)


class ClientSession:
    """One client: give it bytes and the time, take events and bytes."""

    def __init__(
        self,
        *,
        answer_timeout_s: float = 20.0,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        max_unacked: int = 1000,
    ) -> None:
        self._answer_timeout_s = answer_timeout_s
        self._max_packet_bytes = max_packet_bytes
        self._max_unacked = max_unacked
        self._decoder = Decoder(max_packet_bytes)
        self._outgoing = bytearray()
        self._phase = "idle"
        self._keepalive_s = 0.0
        self._sent_at = 0.0
        self._answer_due: float | None = None
        self._last_packet_id = 0
        self._asked: set[int] = set()  # identifiers of SUBSCRIBE and UNSUBSCRIBE without an answer
        self._unacked: dict[int, Publish] = {}

    @property
    def is_connected(self) -> bool:
        """Whether the server has taken us in."""
        return self._phase == "connected"

    @property
    def unacked(self) -> tuple[Publish, ...]:
        """The QoS 1 messages without an acknowledgement, in the order in which they were given."""
        return tuple(self._unacked.values())

    @property
    def deadline(self) -> float | None:
        """When to call `tick` at the latest; None when there is nothing to wait for."""
        if self._phase == "idle":
            return None
        ping_at = self._sent_at + self._keepalive_s if self._keepalive_s and self.is_connected else None
        return min((at for at in (self._answer_due, ping_at) if at is not None), default=None)

    def connect(self, connect: Connect, now: float) -> None:
        """Begin a new connection on a fresh byte stream: what was under way on the old one is forgotten."""
        self.connection_lost()
        self._phase = "connecting"
        self._keepalive_s = float(connect.keepalive_s)
        self._answer_due = now + self._answer_timeout_s
        self._send(connect, now)

    def connection_lost(self) -> None:
        """Take note that the byte stream is gone. Unacknowledged messages stay."""
        self._phase = "idle"
        self._decoder = Decoder(self._max_packet_bytes)
        self._outgoing.clear()
        self._asked.clear()
        self._answer_due = None

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the server; return what they mean. A fault of the server ends in a `Closed` event."""
        if self._phase == "idle":
            return []
        events: list[Event] = []
        try:
            for packet in self._decoder.feed(data):
                events += self._take(packet, now)
                if self._phase == "idle":
                    break
        except ProtocolError as fault:
            events.append(self._close(fault.message))
        return events

    def tick(self, now: float) -> list[Event]:
        """Send a ping when it is time; return a `Closed` event when the server has not answered in time."""
        if self._phase == "idle":
            return []
        if self._answer_due is not None and now >= self._answer_due:
            return [self._close(f"the server has not answered for {self._answer_timeout_s:.0f} s")]
        if self.is_connected and self._keepalive_s and now >= self._sent_at + self._keepalive_s:
            self._send(Pingreq(), now)
            if self._answer_due is None:
                self._answer_due = now + self._answer_timeout_s
        return []

    def publish(self, topic: str, payload: bytes, now: float, *, qos: int = 1) -> int | None:
        """Send a message, or keep it for the next connection; return its packet id (None for QoS 0).

        A QoS 0 message is dropped while there is no connection. Raises Unavailable when too many QoS 1 messages are
        unacknowledged, and ProtocolError when the topic is too long.
        """
        if not qos:
            if self.is_connected:
                self._send(Publish(topic, payload), now)
            return None
        if len(self._unacked) >= self._max_unacked:
            raise Unavailable(f"{len(self._unacked)} messages wait for the server's acknowledgement")
        packet_id = self._next_packet_id()
        publish = Publish(topic, payload, qos=1, packet_id=packet_id)
        encode(publish)  # refuse now what could never be sent
        self._unacked[packet_id] = publish
        if self.is_connected:
            self._send_unacked(packet_id, now)
        return packet_id

    def subscribe(self, filters: tuple[tuple[str, int], ...], now: float) -> int:
        """Ask for *filters* with their QoS; the answer is a `Subscribed` event with this packet id."""
        packet_id = self._ask()
        self._send(Subscribe(packet_id, filters), now)
        return packet_id

    def unsubscribe(self, filters: tuple[str, ...], now: float) -> int:
        """Give up *filters*; the answer is an `Unsubscribed` event with this packet id."""
        packet_id = self._ask()
        self._send(Unsubscribe(packet_id, filters), now)
        return packet_id

    def acknowledge(self, packet_id: int, now: float) -> None:
        """Tell the server that its message is safe. Nothing happens when the connection is gone: it comes again."""
        if self.is_connected:
            self._send(Puback(packet_id), now)

    def disconnect(self, now: float) -> None:
        """Say goodbye: write what `take_outgoing` returns, then close the stream and call `connection_lost`."""
        if self._phase != "idle":
            self._send(Disconnect(), now)

    def take_outgoing(self) -> bytes:
        """Return the bytes that wait to be written, and forget them."""
        taken = bytes(self._outgoing)
        self._outgoing.clear()
        return taken

    def _take(self, packet: Packet, now: float) -> list[Event]:
        if isinstance(packet, Connack):
            return self._take_connack(packet, now)
        if not self.is_connected:
            raise ProtocolError("the first packet of the server is not CONNACK")
        match packet:
            case Publish():
                return [Published(packet)]
            case Puback():
                publish = self._unacked.pop(packet.packet_id, None)
                return [] if publish is None else [Acknowledged(packet.packet_id, publish)]
            case Suback() if packet.packet_id in self._asked:
                self._asked.discard(packet.packet_id)
                return [Subscribed(packet.packet_id, packet.codes)]
            case Unsuback() if packet.packet_id in self._asked:
                self._asked.discard(packet.packet_id)
                return [Unsubscribed(packet.packet_id)]
            case Pingresp():
                self._answer_due = None
                return []
        raise ProtocolError(f"{type(packet).__name__} is not for a server to send here")

    def _take_connack(self, packet: Connack, now: float) -> list[Event]:
        if self._phase != "connecting":
            raise ProtocolError("a second CONNACK")
        self._answer_due = None
        if packet.return_code:
            self.connection_lost()
            return [Refused(packet.return_code)]
        self._phase = "connected"
        for packet_id in list(self._unacked):
            self._send_unacked(packet_id, now)
        return [Connected(packet.session_present)]

    def _send_unacked(self, packet_id: int, now: float) -> None:
        publish = self._unacked[packet_id]
        self._send(publish, now)
        if not publish.dup:
            self._unacked[packet_id] = replace(publish, dup=True)

    def _ask(self) -> int:
        if not self.is_connected:
            raise Unavailable("there is no connection to the server; subscribe after Connected")
        packet_id = self._next_packet_id()
        self._asked.add(packet_id)
        return packet_id

    def _next_packet_id(self) -> int:
        while True:
            self._last_packet_id = self._last_packet_id % 0xFFFF + 1
            if self._last_packet_id not in self._unacked and self._last_packet_id not in self._asked:
                return self._last_packet_id

    def _close(self, reason: str) -> Closed:
        self.connection_lost()
        return Closed(reason)

    def _send(self, packet: Packet, now: float) -> None:
        self._outgoing += encode(packet)
        self._sent_at = now
