"""Small words of the API: paths, times, progress."""

from collections.abc import Callable
from datetime import datetime
from urllib.parse import quote

# Called with what is moved, bytes so far, bytes in all.
Progress = Callable[[str, int, int], None]


def endpoint(*segments: str) -> str:
    """Join path segments, each percent-encoded whole, into an absolute path."""
    return "/" + "/".join(quote(segment, safe="$") for segment in segments)


def parse_time(text: str | None) -> datetime | None:
    """Read an RFC 3339 time of the API."""
    return datetime.fromisoformat(text) if text else None
