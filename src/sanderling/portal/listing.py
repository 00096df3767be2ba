"""Lists as a page shows them: newest first, and never endless."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from sanderling.sdk import Message, Messages, Workspace

ROWS = 200
# A page looks back over this many messages of all devices for those of one.
WINDOW = 500
WINDOWS = 8
NEVER = datetime.fromtimestamp(0, UTC)


class Dated(Protocol):
    @property
    def version(self) -> int: ...
    @property
    def created_time(self) -> datetime | None: ...


D = TypeVar("D", bound=Dated)


def newest_first(items: Iterable[D]) -> list[D]:
    """Return versions of models or images, newest first."""
    return sorted(items, key=lambda one: (one.created_time or NEVER, one.version), reverse=True)


def latest_messages(server: Workspace, count: int, device: str | None = None) -> Sequence[Message]:
    """Return the last *count* messages of the stream, or of one device in it, latest first.

    For one device it looks back over `WINDOW * WINDOWS` messages and no further.
    """
    stream = Messages(server)
    _, end = stream.read("latest", limit=1)
    found: list[Message] = []
    for _ in range(WINDOWS):
        start = max(0, end - (WINDOW if device else count))
        page, _ = stream.read(start, device=device, limit=end - start) if end > start else ((), 0)
        found = [message for message in page if message.sequence <= end] + found
        end = start
        if len(found) >= count or end == 0:
            break
    return found[-count:][::-1]
