"""The log of one build: ``log.jsonl``, an event a line, numbered from 1.

Appended by one thread, read by many; readers wait for what comes.
"""

import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from sanderling.image.events import Event, Log

MAX_EVENTS = 20_000
PAGE_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class LogPage:
    """Events after a number; *next* is the *after* of the next call."""

    events: tuple[Event, ...]
    next: int


class BuildLog:
    """Appends to the log in *folder*. What is there from an earlier attempt stays."""

    def __init__(self, folder: Path, changed: threading.Condition) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "log.jsonl"
        self._changed = changed
        self._count = sum(1 for _ in _read(self._path, 0))

    def append(self, event: Event) -> None:
        """Add *event* under the next number; past 20 000 only what is worth a warning."""
        if self._count >= MAX_EVENTS and event.level == "info":
            return
        self._count += 1
        line = json.dumps(replace(event, n=self._count).to_json(), ensure_ascii=False) + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
        with self._changed:
            self._changed.notify_all()

    def say(self, step: str, text: str, level: str = "info") -> None:
        """Add an event of the service's own."""
        Log(self.append).say(step, text, level)


def read_page(folder: Path, after: int) -> LogPage:
    """At most 1000 events after number *after*."""
    events = tuple(_read(folder / "log.jsonl", after))[:PAGE_EVENTS]
    return LogPage(events, events[-1].n if events else after)


def read_all(folder: Path) -> list[Event]:
    """All events."""
    return _read(folder / "log.jsonl", 0)


def _read(path: Path, after: int) -> list[Event]:
    found = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if number <= after or not line.endswith("\n"):
                    continue
                found.append(replace(Event.from_json(json.loads(line)), n=number))
    except FileNotFoundError:
        return []
    return found
