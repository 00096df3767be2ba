from datetime import UTC, datetime
from typing import Any

import pytest

from sanderling.demo.answers import Answers, arrivals, prediction_in
from sanderling.sdk.messages import Message

SENT = datetime(2026, 5, 1, tzinfo=UTC)


def message(digit: int, body: Any = None, output: str = "amlOutput", run: str = "r", phase: str = "online") -> Message:
    properties = {"run": run, "phase": phase, "digit": str(digit)}
    body = [digit] if body is None else body
    return Message(1, "d", "digits", output, SENT, properties, {}, body, 3, {})


def test_messages_of_other_runs_and_phases_do_not_count() -> None:
    found = arrivals([message(0), message(1, run="other"), message(2, phase="offline")], "r", "online")
    assert set(found.by_digit) == {0}
    assert found.missing(3) == 2


def test_a_message_that_comes_twice_is_counted() -> None:
    assert arrivals([message(0), message(1), message(0)], "r", "online").doubled == 1


def test_an_error_of_the_script_is_a_fault_and_no_answer() -> None:
    found = arrivals([message(0, {"message": "no"}, output="amlError")], "r", "online")
    assert (found.missing(1), len(found.faults)) == (1, 1)


def test_latency_is_from_the_sensor_to_the_servers_store() -> None:
    answers = arrivals([message(0), message(1)], "r", "online").answers("messages", [SENT.timestamp() - 0.25] * 2)
    assert answers.median_ms == pytest.approx(250)
    assert answers.disagreements([0, 7]) == [1]


@pytest.mark.parametrize("body", [None, [], [1, 2], ["3"], {"a": 1}, "3"])
def test_a_body_that_is_no_prediction_agrees_with_nothing(body: Any) -> None:
    wrong = message(0)
    assert prediction_in(Message(**{name: getattr(wrong, name) for name in Message.__slots__} | {"body": body})) == -1


def test_a_single_answer_has_a_95th_percentile() -> None:
    assert Answers("x", {0: 1}, {0: 0.001}).p95_ms == pytest.approx(1)
