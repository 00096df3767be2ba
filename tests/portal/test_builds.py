from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sanderling.portal.builds import LINES, build_of

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Event:
    second: float
    step: str
    text: str = ""
    bytes: int | None = None
    total_bytes: int | None = None
    level: str = "info"

    @property
    def at(self) -> datetime:
        return BEGAN + timedelta(seconds=self.second)


NOW = BEGAN + timedelta(seconds=60)


def test_a_step_lasts_until_the_next_begins_and_the_last_until_now() -> None:
    build = build_of([Event(0, "base"), Event(2, "resolve"), Event(3, "resolve"), Event(5, "wheels")], "running", NOW)
    assert [(step.name, step.seconds, step.state) for step in build.steps] == [
        ("base", 2.0, "done"),
        ("resolve", 3.0, "done"),
        ("wheels", 55.0, "running"),
    ]


def test_the_last_step_of_a_build_that_ended_lasts_until_its_last_line() -> None:
    build = build_of([Event(0, "base"), Event(2, "push"), Event(4, "push")], "succeeded", NOW)
    assert [(step.seconds, step.state) for step in build.steps] == [(2.0, "done"), (2.0, "done")]


def test_steps_that_overlap_last_as_long_as_they_do() -> None:
    build = build_of([Event(0, "base"), Event(1, "layers"), Event(4, "base"), Event(5, "layers")], "succeeded", NOW)
    assert [(step.name, step.seconds) for step in build.steps] == [("base", 4.0), ("layers", 4.0)]


def test_the_line_that_ends_a_build_is_its_result() -> None:
    build = build_of([Event(0, "base"), Event(3, "failed", "no mirror answers", level="error")], "failed", NOW)
    assert [(step.name, step.state) for step in build.steps] == [("base", "done"), ("result", "failed")]
    build = build_of([Event(0, "base"), Event(3, "cancelled", "on request", level="warning")], "cancelled", NOW)
    assert [(step.name, step.state) for step in build.steps] == [("base", "done"), ("result", "stopped")]


def test_a_failed_build_failed_at_its_last_step() -> None:
    assert build_of([Event(0, "base"), Event(2, "wheels")], "failed", NOW).steps[-1].state == "failed"
    assert build_of([Event(0, "base")], "cancelled", NOW).steps[-1].state == "stopped"


def test_progress_counts_bytes_and_adds_no_line() -> None:
    events = [Event(0, "wheels", "numpy"), Event(1, "wheels", "", 5, 10), Event(2, "wheels", "scipy", 7, 10)]
    (step,) = build_of(events, "running", NOW).steps
    assert (step.bytes, step.total_bytes, step.lines, step.text) == (7, 10, ["numpy"], "scipy")


def test_of_many_lines_the_last_are_kept_and_the_rest_counted() -> None:
    (step,) = build_of([Event(n, "base", str(n)) for n in range(LINES + 5)], "succeeded", NOW).steps
    assert (len(step.lines), step.lines[-1], step.lines_left_out) == (LINES, str(LINES + 4), 5)


def test_a_build_without_log_has_no_steps() -> None:
    assert build_of([], "queued", NOW).steps == []
