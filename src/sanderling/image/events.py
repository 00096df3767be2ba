"""What a build tells while it works: one event a line.

An event is ``{n, at, step, text, bytes, totalBytes, level}``: *n* counts from 1,
*at* is RFC 3339 in UTC, *bytes* and *totalBytes* are there when it is progress.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_CREDENTIALS_IN_URL = re.compile(r"(?<=//)[^/@\s]+@")
_TOKEN_IN_URL = re.compile(r"(://[^/\s]+/t/)[^/\s]+")  # as channels of conda have them
PROGRESS_EVERY_S = 0.25


def without_credentials(text: str) -> str:
    """*text* with user names, passwords and tokens inside of URLs replaced by stars."""
    return _TOKEN_IN_URL.sub(r"\1***", _CREDENTIALS_IN_URL.sub("***@", text))


def now_text() -> str:
    """This moment as RFC 3339 in UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a build's log."""

    n: int
    at: str
    step: str
    text: str
    bytes: int | None = None
    total_bytes: int | None = None
    level: str = "info"

    def to_json(self) -> dict[str, Any]:
        """The event as the API shows it."""
        data: dict[str, Any] = {"n": self.n, "at": self.at, "step": self.step, "text": self.text, "level": self.level}
        if self.bytes is not None:
            data |= {"bytes": self.bytes, "totalBytes": self.total_bytes}
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Event":
        """Read what `to_json` wrote; unknown keys are left out."""
        return cls(
            int(data.get("n", 0)),
            str(data.get("at", "")),
            str(data.get("step", "")),
            str(data.get("text", "")),
            data.get("bytes"),
            data.get("totalBytes"),
            str(data.get("level", "info")),
        )


class Log:
    """Numbers events and hands them to *write*, one at a time; used by many threads."""

    def __init__(self, write: Callable[[Event], None], first: int = 1) -> None:
        self._write = write
        self._next = first
        self._lock = threading.Lock()

    def say(self, step: str, text: str, level: str = "info") -> None:
        """Tell *text*; credentials in URLs are masked."""
        self._emit(step, text, None, None, level)

    def warn(self, step: str, text: str) -> None:
        """Tell something that the user should look at."""
        self.say(step, text, "warning")

    def progress(self, step: str, text: str, done: int, total: int) -> None:
        """Tell that *done* of *total* bytes are through."""
        self._emit(step, text, done, total, "info")

    def _emit(self, step: str, text: str, done: int | None, total: int | None, level: str) -> None:
        with self._lock:
            self._write(Event(self._next, now_text(), step, without_credentials(text), done, total, level))
            self._next += 1


class Progress:
    """Adds up the bytes of several threads and tells them a few times a second."""

    def __init__(self, log: Log, step: str, text: str, total: int) -> None:
        self._log, self._step, self._text, self.total = log, step, text, total
        self._done = 0
        self._told_at = time.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """*count* more bytes are through; a negative count takes back what must be done again."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._told_at < PROGRESS_EVERY_S or self._done >= self.total:
                return
            self._told_at = now
            done = self._done
        self._log.progress(self._step, self._text, done, self.total)

    def finish(self) -> None:
        """Tell the last figure."""
        self._log.progress(self._step, self._text, self._done, self.total)
