"""Slows those who guess passwords, in bounded memory.

After `FREE_TRIES` wrong passwords of one user from one client, each further one
must wait, twice as long each time. The right password clears the count, a quiet
quarter of an hour does too. When `MAX_ENTRIES` are kept, the oldest goes.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from sanderling.errors import Unavailable

FREE_TRIES = 5
MAX_WAIT_S = 60.0
FORGET_AFTER_S = 900.0
MAX_ENTRIES = 10_000


class Slowed(Unavailable):
    """Too many wrong passwords; the next try counts after a while."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many wrong passwords; try again in {retry_after_s:.0f} seconds")
        self.retry_after_s = retry_after_s


class Throttle:
    """Counts failures by key. *clock* gives seconds that only go up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def check(self, key: Hashable) -> None:
        """Raise `Slowed` when *key* must wait."""
        count, last = self._failures.get(key, (0, 0.0))
        if count < FREE_TRIES:
            return
        wait = last + min(2.0 ** min(count - FREE_TRIES, 30), MAX_WAIT_S) - self._clock()
        if wait > 0:
            raise Slowed(max(1.0, wait))

    def failed(self, key: Hashable) -> None:
        """Count a wrong password."""
        now = self._clock()
        count, last = self._failures.pop(key, (0, now))
        if now - last > FORGET_AFTER_S:
            count = 0
        self._failures[key] = (count + 1, now)
        while len(self._failures) > MAX_ENTRIES:
            self._failures.popitem(last=False)

    def succeeded(self, key: Hashable) -> None:
        """Forget the failures of *key*."""
        self._failures.pop(key, None)
