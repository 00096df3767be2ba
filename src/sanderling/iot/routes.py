"""Routes of the edge hub: which messages go where.

    [SELECT *] FROM path [WHERE condition] INTO $upstream | BrokeredEndpoint("/modules/{m}/inputs/{i}")

Rules: words are matched without regard to case; a path is a prefix that ends at a slash, a ``*`` in it stands for one
level; a message goes once to each sink, however many routes lead there.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sanderling.errors import Invalid
from sanderling.iot.condition_parser import Constant, parse_prefix
from sanderling.iot.conditions import Condition
from sanderling.iot.identity import check_id
from sanderling.iot.message import Message

LOWEST_PRIORITY = 2_000_000_000
_MAX_CHARS = 16_384
_FROM = re.compile(r"\s*(?:SELECT\s+\*\s+)?FROM\s+(?P<path>/\S*)\s+", re.IGNORECASE)
_WHERE = re.compile(r"WHERE\s+", re.IGNORECASE)
_INTO = re.compile(
    r"""INTO\s+(?:(?P<upstream>\$upstream)|BrokeredEndpoint\s*\(\s*(?P<quote>["'])(?P<path>[^"']*)(?P=quote)\s*\))\s*;?\s*""",
    re.IGNORECASE,
)
_INPUT_PATH = re.compile(r"/modules/([^/]+)/inputs/([^/]+)/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The hub."""


@dataclass(frozen=True, slots=True)
class ModuleInput:
    """An input of a module on the same device."""

    module_id: str
    input: str


Sink = Upstream | ModuleInput


@dataclass(frozen=True, slots=True)
class Route:
    """One parsed route; *text* is what it was parsed from."""

    text: str
    source: str
    condition: Condition
    sink: Sink

    @classmethod
    def parse(cls, text: str) -> "Route":
        """Read a route. Raises Invalid, with the place that is wrong."""
        if len(text) > _MAX_CHARS:
            raise Invalid(f"a route has at most {_MAX_CHARS} characters")
        start = _FROM.match(text)
        if start is None:
            raise Invalid(f"the route {text[:80]!r} does not begin with FROM /messages/...")
        rest, condition = text[start.end() :], Condition("", Constant(True))
        if where := _WHERE.match(rest):
            tree, after = parse_prefix(rest[where.end() :])
            condition = Condition(rest[where.end() : len(rest) - len(after)].strip(), tree)
            rest = after
        into = _INTO.fullmatch(rest)
        if into is None:
            raise Invalid(f'after FROM and WHERE comes INTO $upstream or BrokeredEndpoint("..."), not {rest[:60]!r}')
        return cls(text, start["path"], condition, Upstream() if into["upstream"] else _module_input(into["path"]))

    def matches(self, message: Message, source: str | None = None) -> bool:
        """Whether *message* takes this route. *source* is its path, if that is not where the message came from."""
        return _is_below(self.source, source or source_of(message)) and self.condition.is_true(message)


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes of a device, by name."""

    by_name: Mapping[str, Route]

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> "Routes":
        """Read all routes. Raises Invalid, naming the route that is wrong."""
        parsed = {}
        for name, text in texts.items():
            try:
                parsed[name] = Route.parse(text)
            except Invalid as error:
                raise Invalid(f"route {name!r}: {error.message}") from error
        return cls(parsed)

    def sinks(self, message: Message, source: str | None = None) -> Iterator[tuple[str, Sink]]:
        """Yield each sink of *message* once, with the name of the first route that leads there."""
        seen: set[Sink] = set()
        for name, route in self.by_name.items():
            if route.sink not in seen and route.matches(message, source):
                seen.add(route.sink)
                yield name, route.sink


def source_of(message: Message) -> str:
    """The path of a message: ``/messages/modules/{m}/outputs/{o}``, or a part of that."""
    if message.module_id is None:
        return "/messages/events"
    module = f"/messages/modules/{message.module_id}"
    return module if message.output is None else f"{module}/outputs/{message.output}"


def _module_input(path: str) -> ModuleInput:
    found = _INPUT_PATH.fullmatch(path)
    if found is None:
        raise Invalid(f"BrokeredEndpoint names /modules/MODULE/inputs/INPUT, not {path[:80]!r}")
    return ModuleInput(check_id("module", found[1]), found[2])


def _is_below(pattern: str, path: str) -> bool:
    wanted = [level.lower() for level in pattern.strip("/").split("/")]
    given = [level.lower() for level in path.strip("/").split("/")]
    if wanted[-1] in ("*", "#"):
        wanted.pop()
    return len(wanted) <= len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=False))
