"""A build's log as steps: what was done, how much, how long. Pure.

Steps come in the order of their first line. A step lasts until the next one
begins or until its own last line, whichever is later, for steps may overlap; the
last one until now while the build runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Protocol

LINES = 200


class Event(Protocol):
    """What is read of one line of the log."""

    @property
    def at(self) -> datetime | None: ...
    @property
    def step(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def bytes(self) -> int | None: ...
    @property
    def total_bytes(self) -> int | None: ...


@dataclass(slots=True)
class Step:
    """One step of a build, as the page shows it.

    *state* is running, done, failed or stopped; *lines* are the last ones, and
    *lines_left_out* says how many came before them.
    """

    name: str
    state: str = "done"
    text: str = ""
    bytes: int | None = None
    total_bytes: int | None = None
    seconds: float | None = None
    lines: list[str] = field(default_factory=list)
    lines_left_out: int = 0
    began: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """The steps of a build in their order."""

    steps: Sequence[Step]


# The line that ends a build belongs to no step: it is what came of it.
RESULT = "result"
NAMES = {"": "build", "done": RESULT, "failed": RESULT, "cancelled": RESULT}
LAST_STATE = {"running": "running", "failed": "failed", "cancelled": "stopped"}


def build_of(events: Iterable[Event], state: str, now: datetime) -> Build:
    """Return the steps that *events* tell of, for an image in *state*."""
    by_name: dict[str, Step] = {}
    for event in events:
        name = NAMES.get(event.step, event.step)
        step = by_name.setdefault(name, Step(name, began=event.at))
        step.ended = event.at or step.ended
        if event.bytes is not None:
            step.bytes, step.total_bytes = event.bytes, event.total_bytes
        if event.text:
            step.text = event.text
            if event.bytes is None:
                step.lines.append(event.text)
        if event.level == "error":
            step.state = "failed"
    steps = list(by_name.values())
    for step, follower in zip_longest(steps, steps[1:]):
        if follower is None and step.state == "done":
            step.state = LAST_STATE.get(state, "done")
        ends = [follower.began, step.ended] if follower else [now if step.state == "running" else step.ended]
        if step.name != RESULT:
            step.seconds = max((seconds_between(step.began, end) for end in ends), default=None)
        step.lines_left_out = max(0, len(step.lines) - LINES)
        step.lines = step.lines[-LINES:]
    return Build(steps)


def seconds_between(start: datetime | None, end: datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0
