"""The server's side of one MQTT connection, and the state that outlives it.

    opened ──CONNECT──▶ asked ──accept──▶ connected ──DISCONNECT, fault, deadline──▶ closed
                          └────refuse────────────────────────────────────────────────▶

Rules: nothing but CONNECT is taken first, and only once; a client that is silent for 1.5 times its keepalive is dead
(3.1.2.10); a client that does not say who it is within *connect_timeout_s* is too; answers to PINGREQ are automatic,
acknowledgements of messages never are: the owner gives them when the message is safe.
"""

from dataclasses import dataclass, field, replace

from sanderling.errors import Unavailable
from sanderling.mqtt.codec import MAX_PACKET_BYTES, Decoder, ProtocolError, encode
from sanderling.mqtt.events import (
    Acknowledged,
    Closed,
    ConnectRequested,
    Event,
    Published,
    SubscribeRequested,
    UnsubscribeRequested,
)
from sanderling.mqtt.filters import is_valid_filter, matches
from sanderling.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    ReturnCode,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)

_MAX_EARLY = 100  # packets before the answer to CONNECT


@dataclass(slots=True)
class SessionState:
    """What a server remembers of a client between connections: filters with their QoS, and unacknowledged messages."""

    subscriptions: dict[str, int] = field(default_factory=dict)
    unacked: dict[int, Publish] = field(default_factory=dict)
    last_packet_id: int = 0

    def find_qos(self, topic: str) -> int | None:
        """The highest QoS among the subscriptions that match *topic*; None when none does."""
        return max((qos for name, qos in self.subscriptions.items() if matches(name, topic)), default=None)

    def next_packet_id(self) -> int:
        """Return an identifier that no unacknowledged message has."""
        while True:
            self.last_packet_id = self.last_packet_id % 0xFFFF + 1
            if self.last_packet_id not in self.unacked:
                return self.last_packet_id


class ServerSession:
    """One connection of a client, seen from the server."""

    def __init__(
        self,
        *,
        now: float,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        connect_timeout_s: float = 20.0,
        max_keepalive_s: float = 1767.0,
        max_unacked: int = 1000,
    ) -> None:
        self._decoder = Decoder(max_packet_bytes)
        self._outgoing = bytearray()
        self._phase = "opened"
        self._max_keepalive_s = max_keepalive_s
        self._max_unacked = max_unacked
        self._silence_s: float = connect_timeout_s
        self._heard_at = now
        self._early: list[Packet] = []
        self.state = SessionState()

    @property
    def is_connected(self) -> bool:
        """Whether the client was accepted and is still there."""
        return self._phase == "connected"

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over: send what is left, then close the socket."""
        return self._phase == "closed"

    @property
    def deadline(self) -> float:
        """The moment at which the client counts as dead unless it sends something before."""
        return self._heard_at + self._silence_s

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the client; return what they mean. A fault of the client ends in a `Closed` event."""
        if self.is_closed:
            return []
        events: list[Event] = []
        try:
            packets = self._decoder.feed(data)
            if self.is_connected and self._early:
                packets, self._early = self._early + packets, []
            for packet in packets:
                self._heard_at = now
                events += self._take(packet)
                if self.is_closed:
                    break
        except ProtocolError as fault:
            events.append(self._close(fault.message))
        return events

    def tick(self, now: float) -> list[Event]:
        """Return a `Closed` event when the deadline has passed."""
        if self.is_closed or now < self.deadline:
            return []
        return [self._close(f"nothing was heard for {now - self._heard_at:.0f} s")]

    def accept(self, connect: Connect, state: SessionState, *, session_present: bool) -> None:
        """Take the client in with its remembered *state*, and queue again what it has not acknowledged.

        A client need not wait for this (3.1.4): call `receive` with no bytes for what it has sent meanwhile.
        """
        self._phase = "connected"
        self.state = state
        # 3.1.2.10; a client that asks for no keepalive gets the longest, so that a dead one is noticed at all.
        asked_s = connect.keepalive_s * 1.5 if connect.keepalive_s else self._max_keepalive_s
        self._silence_s = min(asked_s, self._max_keepalive_s)
        self._send(Connack(ReturnCode.ACCEPTED, session_present=session_present))
        for packet_id, publish in list(state.unacked.items()):
            state.unacked[packet_id] = replace(publish, dup=True)
            self._send(state.unacked[packet_id])

    def refuse(self, return_code: ReturnCode) -> None:
        """Turn the client down; the connection is over."""
        self._send(Connack(return_code))
        self._phase = "closed"

    def acknowledge(self, packet_id: int) -> None:
        """Tell the client that its message is safe."""
        self._send(Puback(packet_id))

    def grant(self, packet_id: int, filters: tuple[tuple[str, int], ...], codes: tuple[int, ...]) -> None:
        """Answer a subscription and remember the filters that were granted (code 0 or 1)."""
        for (name, _), code in zip(filters, codes, strict=True):
            if code <= 1:
                self.state.subscriptions[name] = code
        self._send(Suback(packet_id, codes))

    def release(self, packet_id: int, filters: tuple[str, ...]) -> None:
        """Answer an unsubscription and forget the filters."""
        for name in filters:
            self.state.subscriptions.pop(name, None)
        self._send(Unsuback(packet_id))

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> int | None:
        """Queue a message for the client; return its packet id (None for QoS 0).

        Raises Unavailable when too many messages are unacknowledged.
        """
        if not qos:
            self._send(Publish(topic, payload))
            return None
        if len(self.state.unacked) >= self._max_unacked:
            raise Unavailable(f"the client has {len(self.state.unacked)} messages that it has not acknowledged")
        packet_id = self.state.next_packet_id()
        publish = Publish(topic, payload, qos=1, packet_id=packet_id)
        self._send(publish)
        self.state.unacked[packet_id] = publish
        return packet_id

    def close(self) -> None:
        """End the connection from our side. MQTT 3.1.1 has no word for it: the socket is closed."""
        self._phase = "closed"

    def take_outgoing(self) -> bytes:
        """Return the bytes that wait to be written, and forget them."""
        taken = bytes(self._outgoing)
        self._outgoing.clear()
        return taken

    def _take(self, packet: Packet) -> list[Event]:
        if self._phase == "opened":
            return self._take_connect(packet)
        if self._phase == "asked":
            if len(self._early) >= _MAX_EARLY:
                raise ProtocolError(f"more than {_MAX_EARLY} packets came before the answer to CONNECT")
            self._early.append(packet)
            return []
        match packet:
            case Publish():
                return [Published(packet)]
            case Puback():
                publish = self.state.unacked.pop(packet.packet_id, None)
                return [] if publish is None else [Acknowledged(packet.packet_id, publish)]
            case Subscribe():
                if bad := [name for name, _ in packet.filters if not is_valid_filter(name)]:
                    raise ProtocolError(f"{bad[0][:100]!r} is not a topic filter")
                return [SubscribeRequested(packet.packet_id, packet.filters)]
            case Unsubscribe():
                return [UnsubscribeRequested(packet.packet_id, packet.filters)]
            case Pingreq():
                self._send(Pingresp())
                return []
            case Disconnect():
                return [self._close("the client said goodbye", is_graceful=True)]
        raise ProtocolError(f"{type(packet).__name__} is not for a client to send here")

    def _take_connect(self, packet: Packet) -> list[Event]:
        if not isinstance(packet, Connect):
            raise ProtocolError("the first packet is not CONNECT")
        if packet.protocol_level != 4:
            self.refuse(ReturnCode.UNACCEPTABLE_PROTOCOL)
            return [Closed(f"protocol level {packet.protocol_level}; MQTT 3.1.1 is spoken here")]
        self._phase = "asked"
        return [ConnectRequested(packet)]

    def _close(self, reason: str, *, is_graceful: bool = False) -> Closed:
        self._phase = "closed"
        return Closed(reason, is_graceful=is_graceful)

    def _send(self, packet: Packet) -> None:
        if not self.is_closed:
            self._outgoing += encode(packet)
