"""MQTT 3.1.1 with no I/O in it: packets, their bytes, and the state of a session on either side.

Bytes go in, events come out; packets are queued and taken as bytes. Sockets, TLS and clocks belong to the caller, who
hands in ``now`` (seconds of any steady clock). Source: OASIS "MQTT Version 3.1.1" (the section numbers in comments).

- `packets`: one frozen dataclass for each packet.
- `codec`: `encode` and `Decoder`, which refuses what is malformed or too large.
- `filters`: topic filters and what they match.
- `events`: what a session tells its owner.
- `server_session`, `client_session`: who has sent what, what is not acknowledged, and when the peer is dead.

QoS 0 and 1 are spoken; a QoS 2 publish is a protocol error, as it is for IoT Hub.
"""

from sanderling.mqtt.client_session import ClientSession
from sanderling.mqtt.codec import MAX_PACKET_BYTES, Decoder, PacketTooLarge, ProtocolError, encode
from sanderling.mqtt.events import (
    Acknowledged,
    Closed,
    Connected,
    ConnectRequested,
    Event,
    Published,
    Refused,
    Subscribed,
    SubscribeRequested,
    Unsubscribed,
    UnsubscribeRequested,
)
from sanderling.mqtt.filters import is_valid_filter, is_valid_topic, matches
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
    ReturnCode,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from sanderling.mqtt.server_session import ServerSession, SessionState

__all__ = [
    "MAX_PACKET_BYTES",
    "SUBSCRIPTION_REFUSED",
    "Acknowledged",
    "ClientSession",
    "Closed",
    "Connack",
    "Connect",
    "ConnectRequested",
    "Connected",
    "Decoder",
    "Disconnect",
    "Event",
    "Packet",
    "PacketTooLarge",
    "Pingreq",
    "Pingresp",
    "ProtocolError",
    "Puback",
    "Publish",
    "Published",
    "Refused",
    "ReturnCode",
    "ServerSession",
    "SessionState",
    "Suback",
    "Subscribe",
    "SubscribeRequested",
    "Subscribed",
    "Unsuback",
    "Unsubscribe",
    "UnsubscribeRequested",
    "Unsubscribed",
    "Will",
    "encode",
    "is_valid_filter",
    "is_valid_topic",
    "matches",
]
