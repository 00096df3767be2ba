"""The MQTT topics of IoT Hub, read and written, in both directions.

Ids stand in topics as they are, never percent-encoded (the clients do the same); method names and property bags are
encoded. Topics without an id (``$iothub/...``) belong to whoever holds the connection.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from sanderling.errors import Invalid
from sanderling.iot import property_bag
from sanderling.iot.identity import check_id

TWIN_RESPONSES = "$iothub/twin/res/#"
DESIRED_PATCHES = "$iothub/twin/PATCH/properties/desired/#"
METHOD_REQUESTS = "$iothub/methods/POST/#"

_EVENTS = re.compile(r"devices/([^/]+)(?:/modules/([^/]+))?/messages/events(?:/(.*))?", re.DOTALL)
_INPUT = re.compile(r"devices/([^/]+)/modules/([^/]+)/inputs/([^/]+)(?:/(.*))?", re.DOTALL)
_DEVICEBOUND = re.compile(r"devices/([^/]+)/messages/devicebound(?:/(.*))?", re.DOTALL)
_TWIN_GET = re.compile(r"\$iothub/twin/GET/\?(.*)")
_REPORTED = re.compile(r"\$iothub/twin/PATCH/properties/reported/\?(.*)")
_TWIN_RESPONSE = re.compile(r"\$iothub/twin/res/([0-9]{1,9})/\?(.*)")
_DESIRED = re.compile(r"\$iothub/twin/PATCH/properties/desired/(?:\?(.*))?")
_METHOD_REQUEST = re.compile(r"\$iothub/methods/POST/([^/]+)/\?(.*)")
_METHOD_RESPONSE = re.compile(r"\$iothub/methods/res/(-?[0-9]{1,9})/\?(.*)")


class UnknownTopic(Invalid):
    """A topic that IoT Hub does not know."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"{topic[:200]!r} is not a topic of IoT Hub")
        self.topic = topic


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A message to the hub; *bag* holds its properties under their wire names."""

    device_id: str
    module_id: str | None
    bag: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class TwinGet:
    """The client asks for its twin."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ReportedPatch:
    """The client patches its reported properties."""

    request_id: str


@dataclass(frozen=True, slots=True)
class MethodResponse:
    """The client answers a direct method."""

    status: int
    request_id: str


@dataclass(frozen=True, slots=True)
class TwinResponse:
    """The hub answers `TwinGet` or `ReportedPatch`; *version* is the new reported version after a patch."""

    status: int
    request_id: str
    version: int | None


@dataclass(frozen=True, slots=True)
class DesiredPatch:
    """The hub tells of new desired properties."""

    version: int | None


@dataclass(frozen=True, slots=True)
class MethodRequest:
    """The hub invokes a direct method."""

    name: str
    request_id: str


@dataclass(frozen=True, slots=True)
class ModuleMessage:
    """A message for a module's input."""

    device_id: str
    module_id: str
    input: str
    bag: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class CloudToDevice:
    """A message from the hub for a device."""

    device_id: str
    bag: Mapping[str, str | None]


Upward = Telemetry | TwinGet | ReportedPatch | MethodResponse
Downward = TwinResponse | DesiredPatch | MethodRequest | ModuleMessage | CloudToDevice


def parse_upward(topic: str) -> Upward:
    """Read a topic that a device or module published to. Raises UnknownTopic, or Invalid for a bad part of it."""
    if found := _EVENTS.fullmatch(topic):
        module_id = check_id("module", found[2]) if found[2] is not None else None
        bag = (found[3] or "").rstrip("/").removeprefix("?")
        return Telemetry(check_id("device", found[1]), module_id, property_bag.decode(bag))
    if found := _TWIN_GET.fullmatch(topic):
        return TwinGet(_request_id(topic, found[1]))
    if found := _REPORTED.fullmatch(topic):
        return ReportedPatch(_request_id(topic, found[1]))
    if found := _METHOD_RESPONSE.fullmatch(topic):
        return MethodResponse(int(found[1]), _request_id(topic, found[2]))
    raise UnknownTopic(topic)


def parse_downward(topic: str) -> Downward:
    """Read a topic that the hub published to. Raises UnknownTopic, or Invalid for a bad part of it."""
    if found := _TWIN_RESPONSE.fullmatch(topic):
        version = _number(property_bag.decode(found[2]).get("$version"))
        return TwinResponse(int(found[1]), _request_id(topic, found[2]), version)
    if found := _DESIRED.fullmatch(topic):
        return DesiredPatch(_number(property_bag.decode(found[1] or "").get("$version")))
    if found := _METHOD_REQUEST.fullmatch(topic):
        return MethodRequest(unquote(found[1]), _request_id(topic, found[2]))
    if found := _INPUT.fullmatch(topic):
        device_id, module_id = check_id("device", found[1]), check_id("module", found[2])
        return ModuleMessage(device_id, module_id, unquote(found[3]), property_bag.decode(found[4] or ""))
    if found := _DEVICEBOUND.fullmatch(topic):
        return CloudToDevice(check_id("device", found[1]), property_bag.decode(found[2] or ""))
    raise UnknownTopic(topic)


def is_allowed_filter(topic_filter: str, device_id: str, module_id: str | None) -> bool:
    """Whether the identity may subscribe to *topic_filter*: its own messages, its twin, its methods; nothing else."""
    own = inputs_filter(device_id, module_id) if module_id is not None else devicebound_filter(device_id)
    if topic_filter in (TWIN_RESPONSES, DESIRED_PATCHES, METHOD_REQUESTS, own):
        return True
    # A narrower filter (one input, one method) is as good.
    bases = (TWIN_RESPONSES, DESIRED_PATCHES, METHOD_REQUESTS, own)
    return any(topic_filter.startswith(base.removesuffix("#")) for base in bases)


def events_topic(device_id: str, module_id: str | None, bag: str) -> str:
    """Where a device or module publishes its messages; *bag* is encoded."""
    return f"{_base(device_id, module_id)}/messages/events/{bag}"


def input_topic(device_id: str, module_id: str, input_name: str, bag: str) -> str:
    """Where a module receives a message for *input_name*; *bag* is encoded."""
    return f"{_base(device_id, module_id)}/inputs/{quote(input_name, safe='')}/{bag}"


def inputs_filter(device_id: str, module_id: str) -> str:
    """What a module subscribes to for all its inputs."""
    return f"{_base(device_id, module_id)}/inputs/#"


def devicebound_topic(device_id: str, bag: str) -> str:
    """Where a device receives a message from the hub; *bag* is encoded."""
    return f"{_base(device_id, None)}/messages/devicebound/{bag}"


def devicebound_filter(device_id: str) -> str:
    """What a device subscribes to for messages from the hub."""
    return f"{_base(device_id, None)}/messages/devicebound/#"


def twin_get_topic(request_id: str) -> str:
    """Where a client asks for its twin."""
    return f"$iothub/twin/GET/?$rid={quote(request_id, safe='')}"


def reported_patch_topic(request_id: str) -> str:
    """Where a client patches its reported properties."""
    return f"$iothub/twin/PATCH/properties/reported/?$rid={quote(request_id, safe='')}"


def twin_response_topic(status: int, request_id: str, version: int | None = None) -> str:
    """Where the hub answers a twin request."""
    tail = "" if version is None else f"&$version={version}"
    return f"$iothub/twin/res/{status}/?$rid={quote(request_id, safe='')}{tail}"


def desired_patch_topic(version: int) -> str:
    """Where the hub tells of new desired properties."""
    return f"$iothub/twin/PATCH/properties/desired/?$version={version}"


def method_request_topic(name: str, request_id: str) -> str:
    """Where the hub invokes a direct method. *request_id* is hexadecimal: some clients split at any ``=``."""
    return f"$iothub/methods/POST/{quote(name, safe='')}/?$rid={request_id}"


def method_response_topic(status: int, request_id: str) -> str:
    """Where a client answers a direct method."""
    return f"$iothub/methods/res/{status}/?$rid={quote(request_id, safe='')}"


def _base(device_id: str, module_id: str | None) -> str:
    return f"devices/{device_id}" if module_id is None else f"devices/{device_id}/modules/{module_id}"


def _request_id(topic: str, bag: str) -> str:
    request_id = property_bag.decode(bag).get("$rid")
    if not request_id or len(request_id) > 256:
        raise Invalid(f"{topic[:200]!r} lacks a $rid of 1 to 256 characters")
    return request_id


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None
