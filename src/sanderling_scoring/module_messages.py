"""What comes to a module's inputs, and what goes to its outputs: topics and properties.

    in   devices/{d}/modules/{m}/inputs/{input}/{bag}
    out  devices/{d}/modules/{m}/messages/events/{bag}    with $.on=<output>

The bag holds properties as in a URL's query. Names that begin with `$.` are the
system's; the rest are the application's and pass through.
"""

from __future__ import annotations

import json
from urllib.parse import quote, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from sanderling_scoring.answers import Answer
    from sanderling_scoring.workload import ModuleIdentity

OUTPUT, ERROR_OUTPUT = "amlOutput", "amlError"
RESPONSE_PROPERTY = "AzureMLResponse"
MAX_BODY_BYTES = 256 * 1024  # the hub's limit for one message
MAX_TOPIC_BYTES = 60_000


class InputMessage:
    """One message to an input. `packet_id` is 0 when it needs no PUBACK."""

    __slots__ = ("body", "name", "packet_id", "properties")

    def __init__(self, name: str, properties: dict[str, Optional[str]], body: bytes, packet_id: int) -> None:
        self.name = name
        self.properties = properties
        self.body = body
        self.packet_id = packet_id

    @property
    def content_type(self) -> str:
        """What the sender says the body is."""
        return self.properties.get("$.ct") or ""


class OutputMessage:
    """One message to an output."""

    __slots__ = ("body", "output", "properties")

    def __init__(self, output: str, properties: dict[str, Optional[str]], body: bytes) -> None:
        self.output = output
        self.properties = properties
        self.body = body


def parse_input(identity: ModuleIdentity, topic: str, body: bytes, packet_id: int) -> Optional[InputMessage]:
    """Return the message, or None when the topic is not one of this module's inputs."""
    prefix = f"devices/{identity.device_id}/modules/{identity.module_id}/inputs/"
    if not topic.startswith(prefix):
        return None
    name, _, bag = topic[len(prefix) :].partition("/")
    return InputMessage(unquote(name), decode_bag(bag), body, packet_id) if name else None


def decode_bag(bag: str) -> dict[str, Optional[str]]:
    """Return the properties of a bag; a name without `=` has no value (None)."""
    properties: dict[str, Optional[str]] = {}
    for pair in bag.rstrip("/").lstrip("?").split("&"):
        if pair:
            name, equals, value = pair.partition("=")
            properties[unquote(name)] = unquote(value) if equals else None
    return properties


def encode_bag(properties: dict[str, Optional[str]]) -> str:
    """Return the bag of the properties, in their order."""
    return "&".join(
        quote(name, safe="") if value is None else f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in properties.items()
    )


def topic_of(identity: ModuleIdentity, message: OutputMessage) -> str:
    """Return the topic to publish the message to."""
    bag = encode_bag({"$.on": message.output, **message.properties})
    return f"devices/{identity.device_id}/modules/{identity.module_id}/messages/events/{bag}"


def answer_message(message: InputMessage, answer: Answer) -> OutputMessage:
    """Return what to send for an answer: the body unchanged, or the error with its cause."""
    if answer.status >= 400 or answer.has_failed:
        return error_message(message, answer.cause or f"the script answered {answer.status}")
    if len(answer.body) > MAX_BODY_BYTES:
        return error_message(message, f"the answer has {len(answer.body)} bytes; {MAX_BODY_BYTES} can be sent")
    properties = _passed_on(message)
    # The type is that of the answer, not of what was asked: routes look into
    # bodies that say they are JSON.
    properties["$.ct"] = answer.content_type.partition(";")[0]
    properties["$.ce"] = "utf-8"
    properties[RESPONSE_PROPERTY] = "OK"
    output = OutputMessage(OUTPUT, properties, answer.body)
    if len(encode_bag(properties)) > MAX_TOPIC_BYTES:
        return error_message(message, "the properties are too long to be passed on")
    return output


def error_message(message: InputMessage, cause: str) -> OutputMessage:
    """Return the message to the error output: what failed, and for which input."""
    body = {"message": cause[:8192], "input": message.name, "inputProperties": message.properties}
    properties = _passed_on(message)
    if len(encode_bag(properties)) > MAX_TOPIC_BYTES:
        properties = {}
        body["inputProperties"] = {}
    properties["$.ct"] = "application/json"
    properties["$.ce"] = "utf-8"
    properties[RESPONSE_PROPERTY] = "Error"
    return OutputMessage(ERROR_OUTPUT, properties, json.dumps(body).encode())


def _passed_on(message: InputMessage) -> dict[str, Optional[str]]:
    given = message.properties
    passed = {name: value for name, value in given.items() if not name.startswith(("$", "iothub-"))}
    correlation = given.get("$.cid") or given.get("$.mid")
    if correlation:
        passed["$.cid"] = correlation
    return passed
