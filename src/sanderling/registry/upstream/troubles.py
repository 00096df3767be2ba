"""What upstreams refused or failed at lately: answered from memory for a while. No I/O.

- A storm of misses does not reach the upstream: the same question gets the
  same answer for NEGATIVE_S.
- An upstream that cannot be reached is left alone for BACKOFF_S, doubling up to
  MAX_BACKOFF_S, so that a site that is cut off serves what it has without waiting.
- After 429 it is left alone for as long as it asks (`Retry-After`), at most MAX_LIMIT_S.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from sanderling.errors import SanderlingError
from sanderling.registry.errors import UpstreamLimited, UpstreamUnavailable

NEGATIVE_S = 15.0
BACKOFF_S = 5.0
MAX_BACKOFF_S = 300.0
LIMIT_S = 60.0
MAX_LIMIT_S = 3600.0
_MAX_REMEMBERED = 10_000


class Troubles:
    """The memory of one process, bounded; the oldest is forgotten first."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._answers: OrderedDict[Hashable, tuple[float, SanderlingError]] = OrderedDict()
        self._upstreams: dict[Hashable, tuple[float, float, UpstreamUnavailable]] = {}  # until, how long, why

    def check(self, upstream: Hashable, question: Hashable) -> None:
        """Raise the answer that *question* had lately, or why *upstream* is left alone now."""
        now = self._monotonic()
        held = self._upstreams.get(upstream)
        if held is not None and now < held[0]:
            raise _again(held[2], held[0] - now)
        answer = self._answers.get(question)
        if answer is not None:
            if now < answer[0]:
                raise answer[1].with_traceback(None)
            del self._answers[question]

    def answered(self, question: Hashable, error: SanderlingError) -> None:
        """Remember that *question* is answered with *error*."""
        self._answers[question] = (self._monotonic() + NEGATIVE_S, error)
        self._answers.move_to_end(question)
        while len(self._answers) > _MAX_REMEMBERED:
            self._answers.popitem(last=False)

    def failed(self, upstream: Hashable, error: UpstreamUnavailable) -> None:
        """Remember that nothing comes from *upstream* now."""
        now = self._monotonic()
        if isinstance(error, UpstreamLimited):
            wait = min(error.retry_after_s or LIMIT_S, MAX_LIMIT_S)
        else:
            until, before, _ = self._upstreams.get(upstream, (0.0, 0.0, error))
            # Of requests that failed together, the first counts.
            wait = before if now < until else min(max(BACKOFF_S, before * 2), MAX_BACKOFF_S)
        self._upstreams[upstream] = (now + wait, wait, error)

    def succeeded(self, upstream: Hashable) -> None:
        """Forget what *upstream* failed at: it answers."""
        self._upstreams.pop(upstream, None)

    def find(self, upstream: Hashable) -> str:
        """Return why *upstream* is left alone, or empty."""
        held = self._upstreams.get(upstream)
        return "" if held is None else held[2].why


def _again(error: UpstreamUnavailable, wait_s: float) -> UpstreamUnavailable:
    return type(error)(error.upstream, error.registry, error.why, wait_s)
