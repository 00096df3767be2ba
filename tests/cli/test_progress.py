import pytest

from sanderling.cli.output import Output
from sanderling.cli.progress import Meter, progress_line


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_has_bytes_rate_and_time_left() -> None:
    assert progress_line("model.pkl", 12_000_000, 48_000_000, 2) == "model.pkl  12.0 MB of 48.0 MB  6.0 MB/s  6 s left"
    assert progress_line("model.pkl", 48_000_000, 48_000_000, 8) == "model.pkl  48.0 MB of 48.0 MB  6.0 MB/s"


def test_what_takes_less_than_two_seconds_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Meter(Output(as_json=False), clock) as meter:
        for done in range(4):
            clock.now = done * 0.6
            meter("a", done, 3)
    assert capsys.readouterr().out == ""


def test_without_a_terminal_there_is_a_plain_line_now_and_then_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with Meter(Output(as_json=False), clock) as meter:
        for second in range(13):
            clock.now = float(second)
            meter("a", second, 12)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "    a  5 B of 12 B  1 B/s  7 s left",
        "    a  10 B of 12 B  1 B/s  2 s left",
        "    a  12 B of 12 B  1 B/s",
    ]
