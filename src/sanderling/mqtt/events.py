"""What a session tells its owner: things that happened, as values, in the order in which they happened."""

from dataclasses import dataclass

from sanderling.mqtt.packets import Connect, Publish


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """Server: answer with `ServerSession.accept` or `ServerSession.refuse`."""

    connect: Connect


@dataclass(frozen=True, slots=True)
class SubscribeRequested:
    """Server: answer with `ServerSession.grant`, one code for each filter. Filters are well-formed."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class UnsubscribeRequested:
    """Server: answer with `ServerSession.release`."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """The peer published. With QoS 1, call ``acknowledge`` once the message is safe."""

    publish: Publish


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer has our QoS 1 message *packet_id*; *publish* is what it was."""

    packet_id: int
    publish: Publish


@dataclass(frozen=True, slots=True)
class Connected:
    """Client: the server took us in. What was not acknowledged is already queued again."""

    session_present: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Client: the server turned us down with *return_code* (`ReturnCode`, or a number it does not know)."""

    return_code: int


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Client: the answer to our subscription, a code for each filter."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """Client: the answer to our unsubscription."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over; *reason* is for the log. *is_graceful* when the peer sent DISCONNECT."""

    reason: str
    is_graceful: bool = False


Event = (
    ConnectRequested
    | SubscribeRequested
    | UnsubscribeRequested
    | Published
    | Acknowledged
    | Connected
    | Refused
    | Subscribed
    | Unsubscribed
    | Closed
)
