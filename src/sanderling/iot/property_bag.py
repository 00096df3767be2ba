"""Property bags: ``name=value&name=value`` in the last level of a topic, percent-encoded.

Rules: space is ``%20`` and ``+`` stays ``+``; ``name`` alone is a property without a value (None), ``name=`` one that
is empty.
"""

from collections.abc import Mapping
from urllib.parse import quote, unquote

from sanderling.errors import Invalid

MAX_PROPERTIES = 200


def encode(properties: Mapping[str, str | None]) -> str:
    """Return *properties* as a bag, in their order."""
    return "&".join(
        quote(name, safe="") if value is None else f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in properties.items()
    )


def decode(bag: str) -> dict[str, str | None]:
    """Read a bag; of a name that comes twice the last value counts.

    Raises Invalid when there are more than MAX_PROPERTIES or one is not UTF-8.
    """
    properties: dict[str, str | None] = {}
    if not bag:
        return properties
    parts = bag.split("&", MAX_PROPERTIES)
    if len(parts) > MAX_PROPERTIES:
        raise Invalid(f"a message has more than {MAX_PROPERTIES} properties")
    for part in parts:
        name, equals, value = part.partition("=")
        if name:
            properties[_unquote(name)] = _unquote(value) if equals else None
    return properties


def _unquote(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise Invalid("a message property is not UTF-8 after percent-decoding") from error
