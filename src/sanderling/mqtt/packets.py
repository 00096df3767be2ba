"""The packets of MQTT 3.1.1 as values. Their bytes are the business of `codec`."""

from dataclasses import dataclass, field
from enum import IntEnum

SUBSCRIPTION_REFUSED = 0x80  # 3.9.3: the return code of a filter that was not granted


class ReturnCode(IntEnum):
    """The answer to CONNECT (3.2.2.3). Clients retry SERVER_UNAVAILABLE and give up on the others."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the server publishes for a client that goes without a word."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """3.1. *protocol_level* is 4 for MQTT 3.1.1; of other levels no further field is read."""

    client_id: str
    clean_session: bool = True
    keepalive_s: int = 0
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None
    protocol_level: int = 4


@dataclass(frozen=True, slots=True)
class Connack:
    """3.2."""

    return_code: int
    session_present: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    """3.3. *packet_id* is there exactly when *qos* is 1."""

    topic: str
    payload: bytes = field(repr=False)
    qos: int = 0
    packet_id: int | None = None
    retain: bool = False
    dup: bool = False


@dataclass(frozen=True, slots=True)
class Puback:
    """3.4."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """3.8. *filters* are pairs of filter and the QoS that is asked for (0..2)."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Suback:
    """3.9. One code for each filter: the granted QoS or `SUBSCRIPTION_REFUSED`."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """3.10."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsuback:
    """3.11."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pingreq:
    """3.12."""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """3.13."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """3.14."""


Packet = (
    Connect | Connack | Publish | Puback | Subscribe | Suback | Unsubscribe | Unsuback | Pingreq | Pingresp | Disconnect
)
