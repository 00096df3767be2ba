"""Counters of one process, as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """Counts; each kind is written by one thread only, so that no lock is needed."""

    def __init__(self) -> None:
        self._responses: dict[tuple[str, int], int] = {}
        self._run_counts = [0] * (len(BUCKETS_S) + 1)
        self._run_sum_s = 0.0
        self._messages: dict[str, int] = {}

    def count_response(self, route: str, status: int) -> None:
        """Count one HTTP response."""
        key = (route, status)
        self._responses[key] = self._responses.get(key, 0) + 1

    def observe_run(self, seconds: float) -> None:
        """Count one call of run()."""
        self._run_counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._run_sum_s += seconds

    def count_message(self, output: str) -> None:
        """Count one message sent to an output of the module and confirmed."""
        self._messages[output] = self._messages.get(output, 0) + 1

    def render(self, gauges: Mapping[str, float]) -> str:
        """Return all counters, and the gauges given by name."""
        lines = ["# TYPE sanderling_scoring_responses_total counter"]
        for (route, status), count in sorted(self._responses.items()):
            lines.append(f'sanderling_scoring_responses_total{{route="{route}",code="{status}"}} {count}')
        lines.append("# TYPE sanderling_scoring_messages_total counter")
        for output, count in sorted(self._messages.items()):
            lines.append(f'sanderling_scoring_messages_total{{output="{output}"}} {count}')
        lines.append("# TYPE sanderling_scoring_run_seconds histogram")
        total = 0
        for bound, count in zip(BUCKETS_S, self._run_counts):  # noqa: B905 - strict= is Python 3.10's
            total += count
            lines.append(f'sanderling_scoring_run_seconds_bucket{{le="{bound}"}} {total}')
        total += self._run_counts[-1]
        lines.append(f'sanderling_scoring_run_seconds_bucket{{le="+Inf"}} {total}')
        lines.append(f"sanderling_scoring_run_seconds_sum {self._run_sum_s:.6f}")
        lines.append(f"sanderling_scoring_run_seconds_count {total}")
        for name, value in gauges.items():
            lines.append(f"# TYPE sanderling_scoring_{name} gauge")
            lines.append(f"sanderling_scoring_{name} {value:g}")
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Return this process's resident memory, or 0 where /proc is not."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    import resource

    return pages * resource.getpagesize()
