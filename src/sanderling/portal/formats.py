"""Figures and times as people read them. Pure: the present comes in as an argument.

- Sizes are decimal (1 MB is 1,000,000 bytes), as registries and browsers show them.
- Times are UTC on the server's pages; a reader's own zone is not known here.
- What a peer wrote is cut at a stated length, and says so.
"""

import json
from datetime import UTC, datetime
from typing import Any

UNITS = ("kB", "MB", "GB", "TB", "PB")
AGES = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"))
LINE_CHARS = 160
BODY_CHARS = 4_000
MAX_INDENT = 32
TOO_DEEP = "(nested too deeply to show)"


def size(count: float | None) -> str:
    """Return a number of bytes with three figures and its unit; a dash when it is not known."""
    if count is None:
        return "–"
    if count < 1000:
        return f"{count:.0f} bytes" if count != 1 else "1 byte"
    value, unit = float(count), ""
    for name in UNITS:
        value, unit = value / 1000, name
        if value < 999.5:
            break
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def duration(seconds: float | None) -> str:
    """Return a length of time with at most two units; a dash when it is not known."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def age(then: datetime | None, now: datetime) -> str:
    """Return how long ago *then* was; "never" when there is no such time."""
    if then is None:
        return "never"
    passed = (now - then).total_seconds()
    if abs(passed) < 5:
        return "just now"
    amount = f"{abs(passed) // 86_400:.0f} d"
    for limit, unit_s, name in AGES:
        if abs(passed) < limit:
            amount = f"{abs(passed) // unit_s:.0f} {name}"
            break
    return f"{amount} ago" if passed > 0 else f"in {amount}"


def moment(value: datetime | None) -> str:
    """Return a time to the second, in UTC."""
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def parse_time(value: object) -> datetime | None:
    """Return an RFC 3339 time as the API and IoT Hub write them, or None for what is no time.

    IoT Hub writes `0001-01-01T00:00:00Z` for "never".
    """
    if isinstance(value, datetime):
        found = value
    elif isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
    else:
        return None
    if found.year < 1970:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def short_digest(value: str | None) -> str:
    """Return the algorithm and the first twelve figures of a digest."""
    if not value:
        return "–"
    algorithm, _, figures = value.partition(":")
    return f"{algorithm}:{figures[:12]}" if figures else algorithm[:12]


def cut(text: str, limit: int = BODY_CHARS) -> str:
    """Return *text*, shortened when it is longer than *limit* characters; then its end says so."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def pretty(value: Any, limit: int = BODY_CHARS) -> str:
    """Return a text as it is and anything else as indented JSON, both cut at *limit*."""
    return cut(value if isinstance(value, str) else _indented(value), limit)


def one_line(value: Any, limit: int = LINE_CHARS) -> str:
    """Return a value on one line, cut at *limit*."""
    text = value if isinstance(value, str) else _compact(value)
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else f"{text[:limit]}…"


def sentence(text: str) -> str:
    """Return a message of the error tree with a capital at its start."""
    return text[:1].upper() + text[1:]


def _compact(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return TOO_DEEP


def _indented(value: Any, indent: str = "") -> str:
    """JSON with an object's keys and a list's objects a line each; a list of plain values keeps to one line."""
    if not isinstance(value, dict | list) or not value or len(indent) > MAX_INDENT:
        return _compact(value)
    deeper = indent + "  "
    if isinstance(value, dict):
        lines = [f"{_compact(key)}: {_indented(one, deeper)}" for key, one in value.items()]
        return "{\n" + ",\n".join(deeper + line for line in lines) + f"\n{indent}}}"
    if not any(isinstance(one, dict | list) for one in value):
        return _compact(value)
    return "[\n" + ",\n".join(deeper + _indented(one, deeper) for one in value) + f"\n{indent}]"
