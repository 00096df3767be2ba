"""Read what a server asks for with 401: the challenges of `WWW-Authenticate`.

Lenient, because servers differ: several challenges in one header or in several,
quoted strings with escapes, words in any case, parameters nobody knows. What
cannot be read is left out; nothing raises, and the time is linear.

Source: RFC 9110, sections 5.6 and 11.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_MAX_BYTES = 16 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SPACES = re.compile(r"[ \t]*")
_SEPARATORS = re.compile(r"[ \t,]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"?', re.DOTALL)
# Servers also send URLs and scopes without quotes, which RFC 9110 does not allow.
_BARE = re.compile(r"[^\s,\"]*")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_JUNK = re.compile(r'(?:"(?:[^"\\]|\\.)*+"?|[^,"])*', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to sign in: *scheme* and the names of *parameters* are in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all `WWW-Authenticate` *headers*, in order. Never raises."""
    found: list[Challenge] = []
    for header in headers:
        found += _parse(header[:_MAX_BYTES])
    return found


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while (position := _end(_SEPARATORS, text, position)) < len(text):
        word = _TOKEN.match(text, position)
        if word is None:
            position = max(_end(_JUNK, text, position), position + 1)
            continue
        equals = _EQUALS.match(text, word.end())
        if equals is None:
            found.append(Challenge(word[0].lower()))
            position = _after_token68(text, word.end())
            continue
        value, position = _value(text, equals.end())
        if found:
            found[-1].parameters.setdefault(word[0].lower(), value)
    return found


def _value(text: str, position: int) -> tuple[str, int]:
    quoted = _QUOTED.match(text, position)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end()
    bare = _BARE.match(text, position)
    assert bare is not None
    return bare[0], bare.end()


def _after_token68(text: str, position: int) -> int:
    """Pass over `Negotiate YII...=`; a single word that is a scheme of its own is left."""
    start = _end(_SPACES, text, position)
    found = _TOKEN68.match(text, start) if start > position else None
    return position if found is None else found.end()


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return position if found is None else found.end()
