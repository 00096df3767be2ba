"""Slows those who guess passwords, in bounded memory, and keeps nobody out who has the right one.

A wrong password is counted three times: for its user at its address, for the
user, and for the address. After `FREE_TRIES` of the first, or `WIDE_TRIES` of
either other, the answer is 429 and comes late, twice as late each time. The
right password is never refused: otherwise whoever shares its owner's address (a
relay) or guesses from many could lock the owner out. That is safe because no
password here is chosen by people: they have 256 random bits or more, and what a
guesser gets is work, not a chance. A quiet quarter of an hour forgets; so does
the right password, for its user at its address. The counts are each server's own.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from sanderling.errors import Unavailable

FREE_TRIES = 5
WIDE_TRIES = 100
MAX_WAIT_S = 60.0
FORGET_AFTER_S = 900.0
MAX_ENTRIES = 10_000


class Slowed(Unavailable):
    """Too many wrong passwords; try again after a while."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many wrong passwords; try again in {retry_after_s:.0f} seconds")
        self.retry_after_s = retry_after_s


class Throttle:
    """Counts failures. *clock* gives seconds that only go up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._pairs, self._users, self._addresses = (_Counts(clock) for _ in range(3))
        self._lock = threading.Lock()

    def failed(self, user: str, address: str) -> None:
        """Count a wrong password; raise `Slowed` when there were too many."""
        with self._lock:
            excess = max(
                self._pairs.add((user, address)) - FREE_TRIES,
                self._users.add(user) - WIDE_TRIES,
                self._addresses.add(address) - WIDE_TRIES,
            )
        if excess > 0:
            raise Slowed(min(2.0 ** min(excess - 1, 30), MAX_WAIT_S))

    def succeeded(self, user: str, address: str) -> None:
        """Forget the failures of *user* at *address*."""
        with self._lock:
            self._pairs.forget((user, address))


class _Counts:
    """Failures by key; the key that failed longest ago goes when there are too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def add(self, key: Hashable) -> int:
        now = self._clock()
        count, last = self._failures.pop(key, (0, now))
        if now - last > FORGET_AFTER_S:
            count = 0
        self._failures[key] = (count + 1, now)
        while len(self._failures) > MAX_ENTRIES:
            self._failures.popitem(last=False)
        return count + 1

    def forget(self, key: Hashable) -> None:
        self._failures.pop(key, None)
