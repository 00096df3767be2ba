"""Lengths of time as they are typed: 90m, 12h, 30d, 2w."""

import re
from datetime import timedelta

from sanderling.errors import Invalid
from sanderling.sdk.hints import hinted

METAVAR = "30d|12h|90m"
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOST = timedelta(days=36_500)


def parse_duration(option: str, text: str) -> timedelta:
    """Return what *text* says; raise `Invalid` with the way out. *option* is where it was given."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", text)
    length = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else _MOST
    if length >= _MOST:
        raise hinted(
            Invalid(f"{option} {text[:50]!r} is not a length of time such as 90m, 12h or 30d"), f"{option} 30d"
        )
    return length
