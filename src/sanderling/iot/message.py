"""A message: bytes with properties, from a device or one of its modules.

On the wire the system properties are ``$.xxx`` entries of the same bag as the application's own; here they are apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sanderling.errors import Invalid
from sanderling.iot import property_bag

MAX_BODY_BYTES = 256 * 1024
MAX_DELIVERY_ID_CHARS = 64

_OUTPUT = "$.on"
_DELIVERY_ID = "$.did"
# Wire name -> the name that routes and readers use.
SYSTEM_PROPERTIES: dict[str, str] = {
    "$.mid": "messageId",
    "$.cid": "correlationId",
    "$.uid": "userId",
    "$.ct": "contentType",
    "$.ce": "contentEncoding",
    "$.exp": "expiryTimeUtc",
    "$.ctime": "creationTimeUtc",
    "$.cdid": "connectionDeviceId",
    "$.cmid": "connectionModuleId",
    "$.ifid": "interfaceId",
    "$.sub": "componentName",
    "$.schema": "messageSchema",
    "$.to": "to",
}
_WIRE_NAMES = {name: wire for wire, name in SYSTEM_PROPERTIES.items()}


@dataclass(frozen=True, slots=True)
class Message:
    """A message from *device_id*, or from its module *module_id*, through the module's *output* if it named one.

    *delivery_id* is the same for every attempt to deliver the message, and different for every message.
    """

    body: bytes = field(repr=False)
    device_id: str
    module_id: str | None = None
    output: str | None = None
    properties: Mapping[str, str | None] = field(default_factory=dict)
    system_properties: Mapping[str, str] = field(default_factory=dict)
    delivery_id: str | None = None

    @classmethod
    def from_bag(
        cls, body: bytes, bag: Mapping[str, str | None], *, device_id: str, module_id: str | None = None
    ) -> "Message":
        """Read a message off the wire. Raises Invalid when the body or the delivery id is over its limit."""
        if len(body) > MAX_BODY_BYTES:
            raise Invalid(f"a message of {len(body)} bytes is over the limit of {MAX_BODY_BYTES}")
        delivery_id = bag.get(_DELIVERY_ID)
        if delivery_id is not None and not 0 < len(delivery_id) <= MAX_DELIVERY_ID_CHARS:
            raise Invalid(f"a delivery id has 1 to {MAX_DELIVERY_ID_CHARS} characters, not {len(delivery_id)}")
        apart = (*SYSTEM_PROPERTIES, _OUTPUT, _DELIVERY_ID)
        return cls(
            body=body,
            device_id=device_id,
            module_id=module_id,
            output=bag.get(_OUTPUT),
            properties={name: value for name, value in bag.items() if name not in apart},
            system_properties={
                SYSTEM_PROPERTIES[name]: value or "" for name, value in bag.items() if name in SYSTEM_PROPERTIES
            },
            delivery_id=delivery_id,
        )

    def bag(self) -> dict[str, str | None]:
        """Return all properties under their wire names: system, output, delivery id, then the application's."""
        bag: dict[str, str | None] = {
            _WIRE_NAMES[name]: value for name, value in self.system_properties.items() if name in _WIRE_NAMES
        }
        if self.output is not None:
            bag[_OUTPUT] = self.output
        if self.delivery_id is not None:
            bag[_DELIVERY_ID] = self.delivery_id
        return bag | dict(self.properties)

    def encoded_bag(self) -> str:
        """Return `bag` as the last level of a topic."""
        return property_bag.encode(self.bag())
