"""JSON from a peer, parsed within bounds, and our own, written in one form.

Refused: more than `MAX_DOCUMENT_BYTES` or `MAX_CONTAINERS`, nesting deeper than `MAX_DEPTH`, a
duplicate key (two readers could see two documents), NaN and Infinity, text that
is no UTF-8 or holds half a surrogate pair.
"""

import json
import re
from functools import cache
from typing import Any

from sanderling.errors import Invalid

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024  # distribution-spec 1.1, "Pushing Manifests": at least 4 MiB
MAX_DEPTH = 32
# Objects and lists in one document: ten for each of the manifests that an index has at most.
MAX_CONTAINERS = 100_000

# An unclosed string matches too, or each of its escaped quotes would start a search to the end.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


def _nests_too_much(raw: bytes) -> bool:
    """Say so before anything recursive reads *raw*: too deep, too many, or brackets that do not pair."""
    brackets = _STRING.sub(b"", raw).translate(_ONE_KIND, _NOT_A_BRACKET)
    if brackets.count(b"[") > MAX_CONTAINERS:
        return True
    for _ in range(MAX_DEPTH):  # each turn takes away the innermost level, at the speed of C
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    return bool(brackets)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Invalid("the JSON document has a key twice in one object")
    return fields


def _refuse_constant(text: str) -> None:
    raise Invalid(f"the JSON document holds {text}, which is no JSON number")


def parse_document(raw: bytes, what: str = "document", max_bytes: int = MAX_DOCUMENT_BYTES) -> dict[str, Any]:
    """Return the JSON object that *raw* is; *what* names it in errors. Raise `Invalid`."""
    if len(raw) > max_bytes:
        raise Invalid(f"the {what} has {len(raw)} bytes; {max_bytes} is the limit")
    if _nests_too_much(raw):
        raise Invalid(
            f"the {what} nests deeper than {MAX_DEPTH} levels, has more than {MAX_CONTAINERS} objects and lists,"
            " or its brackets do not pair"
        )
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        if b"\\ud" in raw.lower():
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeError as e:
        raise Invalid(f"the {what} is not valid UTF-8") from e
    except ValueError as e:
        raise Invalid(f"the {what} is not valid JSON: {str(e)[:200]}") from e
    if not isinstance(document, dict):
        raise Invalid(f"the {what} is not a JSON object")
    return document


@cache
def _folded(known: frozenset[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in known)


def refuse_other_case(fields: dict[str, Any], known: frozenset[str], what: str) -> None:
    """Raise `Invalid` for a key that is one of *known* but for upper and lower case.

    Readers that match keys without regard to case (Go's encoding/json) see the
    field, the others do not. Unicode counts: `layerſ` is `layers` to them.
    """
    for key in fields.keys() - known:
        if key.casefold() in _folded(known):
            raise Invalid(f"{key[:100]!r} of the {what} is one of its fields in another case")


def canonical_json(value: object) -> bytes:
    """Return *value* as JSON in one form: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def text_field(fields: dict[str, Any], name: str, what: str, *, required: bool = False) -> str:
    """Return the string *name* of *fields*; empty when absent and not required."""
    value = fields.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise Invalid(f"the {what} needs the text {name!r}" if required else f"{name!r} of the {what} is not text")
    return value


def text_map(fields: dict[str, Any], name: str, what: str) -> dict[str, str]:
    """Return the string map *name* of *fields*; empty when absent or null."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise Invalid(f"{name!r} of the {what} is not an object of texts")
    return value


def text_list(fields: dict[str, Any], name: str, what: str) -> tuple[str, ...]:
    """Return the list of strings *name* of *fields*; empty when absent or null."""
    value = fields.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise Invalid(f"{name!r} of the {what} is not a list of texts")
    return tuple(value)


def object_field(fields: dict[str, Any], name: str, what: str) -> dict[str, Any] | None:
    """Return the object *name* of *fields*, or None when absent or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, dict):
        raise Invalid(f"{name!r} of the {what} is not an object")
    return value
