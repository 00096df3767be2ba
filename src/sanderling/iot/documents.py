"""JSON from a peer: parsed once, strictly, into plain values."""

import json
from typing import Any

from sanderling.errors import Invalid


def parse(raw: bytes | str, what: str) -> Any:
    """Return the JSON value in *raw*. Raises Invalid, naming *what* it should have been.

    NaN and infinities, text that is not UTF-8 (half a surrogate pair can be escaped, but never
    written again) and nesting without end are refused.
    """
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
        value = json.loads(text, parse_constant=_refuse)
        if isinstance(raw, str) or "\\ud" in text.lower():
            compact(value)
        return value
    except (ValueError, RecursionError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Invalid(f"{what} is not JSON: {detail}") from error


def parse_object(raw: bytes | str, what: str) -> dict[str, Any]:
    """Return the JSON object in *raw*. Raises Invalid, naming *what* it should have been."""
    value = parse(raw, what)
    if not isinstance(value, dict):
        raise Invalid(f"{what} is not a JSON object")
    return value


def compact(value: Any) -> bytes:
    """Return *value* as JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")
