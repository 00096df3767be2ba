"""Patterns of paths: those of COPY and ADD, and those of .dockerignore, where ** is any number of folders.

Paths are relative, with '/'. Source: Go's filepath.Match; Docker's ".dockerignore file".
"""

import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache

MAX_PATTERNS = 10_000


def is_pattern(text: str) -> bool:
    """Whether *text* is more than a plain path."""
    return any(c in text for c in "*?[\\")


def matches(pattern: str, path: str) -> bool:
    """Whether *path* is what *pattern* says, folder by folder. Raises ValueError for a pattern that is broken."""
    return _compiled(pattern, False).fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class Ignored:
    """What a .dockerignore file leaves out; the last pattern that matches a path, or a folder it is in, counts."""

    patterns: tuple[tuple[str, bool], ...] = ()  # and whether it takes back

    @classmethod
    def parse(cls, text: str) -> "Ignored":
        """Read the file. Raises ValueError with the line."""
        found = []
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines()[:MAX_PATTERNS], 1):
            plain = line.strip()
            if not plain or line.startswith("#"):
                continue
            takes_back = plain.startswith("!")
            pattern = posixpath.normpath(plain.removeprefix("!").strip()).lstrip("/")
            try:
                _compiled(pattern, True)
            except ValueError as e:
                raise ValueError(f"line {number}: {e}") from e
            if pattern not in ("", "."):
                found.append((pattern, takes_back))
        return cls(tuple(found))

    def leaves_out(self, path: str) -> bool:
        """Whether the file at *path* is left out."""
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        is_out = False
        for pattern, takes_back in self.patterns:
            if is_out == takes_back:
                compiled = _compiled(pattern, True)
                if any(compiled.fullmatch(one) for one in above):
                    is_out = not takes_back
        return is_out


@lru_cache(maxsize=4096)
def _compiled(pattern: str, any_depth: bool) -> re.Pattern[str]:
    found, position = "", 0
    while position < len(pattern):
        c = pattern[position]
        position += 1
        if c == "*" and any_depth and pattern[position : position + 1] == "*":
            position += 1
            if pattern[position : position + 1] == "/":
                position += 1
                found += "(?:.*/)?"
            else:
                found += ".*"
        elif c == "*":
            found += "[^/]*"
        elif c == "?":
            found += "[^/]"
        elif c == "[":
            piece, position = _class(pattern, position)
            found += piece
        elif c == "\\":
            if position == len(pattern):
                raise ValueError(f"the pattern {pattern!r} ends in a backslash")
            found += re.escape(pattern[position])
            position += 1
        else:
            found += re.escape(c)
    return re.compile(found, re.DOTALL)


def _class(pattern: str, position: int) -> tuple[str, int]:
    """The class of characters that begins after its bracket, as a regular expression, and where it ends."""
    start, ranges = position, list[str]()
    negated = pattern[position : position + 1] == "^"
    position += negated
    while position < len(pattern) and (pattern[position] != "]" or not ranges):
        ends = list[str]()
        while not ends or (len(ends) == 1 and pattern[position : position + 1] == "-" and position != len(pattern)):
            position += bool(ends)
            position += pattern[position : position + 1] == "\\"
            if position >= len(pattern):
                raise ValueError(f"the pattern {pattern!r} opens a bracket and does not close it")
            ends.append(pattern[position])
            position += 1
        if ends[-1] < ends[0]:
            raise ValueError(f"the pattern {pattern!r} has the range {ends[0]}-{ends[-1]}, which is backwards")
        ranges.append("-".join(re.escape(end) for end in ends))
    if position >= len(pattern) or not ranges:
        raise ValueError(f"the pattern {pattern[: start - 1]!r}[... opens a bracket and does not close it")
    return f"(?!/)[{'^' if negated else ''}{''.join(ranges)}]", position + 1
