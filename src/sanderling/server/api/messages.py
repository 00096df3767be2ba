"""What devices sent, in the order in which it was stored."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from sanderling.hub import StoredEvent
from sanderling.server.api.depends import JSON, MAX_WAIT_S, OwnerDep, PartsDep, Shape, rfc3339, wait_for

router = APIRouter(prefix="/messages", tags=["messages"])

MAX_MESSAGES = 1000
MAX_DEPTH = 100


class MessageShape(Shape):
    """body: the JSON it holds, else its text, else null with bodyBase64."""

    sequence: int
    device_id: str
    module_id: str | None
    output: str | None
    enqueued_at: datetime
    properties: dict[str, str]
    system_properties: dict[str, str]
    body: Any
    body_base64: str | None = None
    size_bytes: int


class MessageList(Shape):
    messages: list[MessageShape]
    next: int


@router.get("", response_model=MessageList)
async def read_messages(
    parts: PartsDep,
    _: OwnerDep,
    after: Annotated[int | Literal["latest"], Query(description="a message's sequence; latest: only new ones")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_MESSAGES)] = 100,
    wait_s: Annotated[float, Query(ge=0, description=f"wait for the first message, at most {MAX_WAIT_S:g} s")] = 0,
    device: str | None = None,
    module: str | None = None,
) -> Response:
    """Return messages after a place, oldest first, and the place to go on from. Only the owner may."""
    events = parts.hub.events
    place = await asyncio.to_thread(events.last_sequence) if after == "latest" else after
    found: list[StoredEvent] | None
    if wait_s > 0:
        wait_s = min(wait_s, MAX_WAIT_S)
        found = await wait_for(
            parts,
            wait_s + 1,
            lambda: events.wait(place, timeout_s=wait_s, limit=limit, device_id=device, module_id=module),
        )
    else:
        found = await asyncio.to_thread(events.read, place, limit=limit, device_id=device, module_id=module)
    messages = [_json(event) for event in found or ()]
    document = {"messages": messages, "next": messages[-1]["sequence"] if messages else place}
    # Written here, not by the framework: bodies are whatever devices sent, and only this form takes all of it.
    return Response(json.dumps(document), media_type="application/json")


def _json(event: StoredEvent) -> JSON:
    message = event.message
    return {
        "sequence": event.sequence,
        "deviceId": message.device_id,
        "moduleId": message.module_id,
        "output": message.output,
        "enqueuedAt": rfc3339(datetime.fromtimestamp(event.enqueued_at, UTC)),
        "properties": dict(message.properties),
        "systemProperties": dict(message.system_properties),
        "sizeBytes": len(message.body),
        **read_body(message.body),
    }


def read_body(body: bytes) -> JSON:
    """Return `body` as the JSON it holds, else as text; for what is neither, `bodyBase64`."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"body": None, "bodyBase64": base64.b64encode(body).decode()}
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {"body": text}
    return {"body": text if _is_too_deep(value) else value}


def _is_too_deep(value: Any) -> bool:
    """Say whether *value* is nested so deep that writing it as JSON might fail in us or in the reader."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
