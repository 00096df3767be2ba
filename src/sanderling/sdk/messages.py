"""The messages that devices sent, in the order in which the server stored them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sanderling.sdk.wire import parse_time
from sanderling.sdk.workspace import Workspace

POLL_S = 20
PAGE = 500


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a device.

    Attributes:
        sequence: Its number in the stream; later messages have higher ones.
        device_id: Who sent it.
        module_id: Which module of the device, or None.
        output: The module's output that it left by, or None.
        enqueued_time: When the server stored it.
        properties: What the sender set.
        system_properties: Message id, correlation id, content type and the like.
        body: Parsed when it is JSON, text when it is text, else None.
        size_bytes: The body's size.
        values: All that the API says of it.
    """

    sequence: int
    device_id: str
    module_id: str | None
    output: str | None
    enqueued_time: datetime | None
    properties: Mapping[str, str]
    system_properties: Mapping[str, str]
    body: Any
    size_bytes: int
    values: Mapping[str, Any]


class Messages:
    """The server's message stream.

    Args:
        workspace: The way to the server.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def read(
        self,
        after: int | Literal["latest"] = 0,
        *,
        device: str | None = None,
        module: str | None = None,
        limit: int = PAGE,
        wait_s: float = 0,
    ) -> tuple[Sequence[Message], int]:
        """Read one page.

        Args:
            after: Only messages with a higher sequence; `latest` means only those to come.
            device: Only messages of this device.
            module: Only messages of modules with this name.
            limit: How many at most.
            wait_s: How long to wait when there is none.

        Returns:
            The messages, and what to give as `after` for the next page.
        """
        answer = self.workspace.client.call(
            "GET",
            "/api/v1/messages",
            params={
                "after": after,
                "limit": limit,
                "wait_s": int(wait_s) or None,
                "device": device,
                "module": module,
            },
            timeout_s=wait_s + self.workspace.client.timeout_s,
        )
        return [_message(entry) for entry in answer["messages"]], int(answer["next"])

    def follow(
        self,
        after: int | Literal["latest"] = "latest",
        *,
        device: str | None = None,
        module: str | None = None,
    ) -> Iterator[Message]:
        """Yield messages as they arrive, without end.

        Args:
            after: Where to begin, as for `read`.
            device: Only messages of this device.
            module: Only messages of modules with this name.

        Yields:
            One message after the other.
        """
        position = after
        while True:
            messages, position = self.read(position, device=device, module=module, wait_s=POLL_S)
            yield from messages


def _message(values: Mapping[str, Any]) -> Message:
    return Message(
        sequence=int(values["sequence"]),
        device_id=values["deviceId"],
        module_id=values.get("moduleId"),
        output=values.get("output"),
        enqueued_time=parse_time(values.get("enqueuedAt")),
        properties=dict(values.get("properties") or {}),
        system_properties=dict(values.get("systemProperties") or {}),
        body=values.get("body"),
        size_bytes=int(values.get("sizeBytes") or 0),
        values=values,
    )
