"""The build log as a terminal and as a file see it."""

import io

import pytest
from rich.console import Console

from sanderling.cli.build_log import BuildLog
from sanderling.cli.output import Output
from sanderling.sdk.image import LogEvent


def event(step: str, text: str, level: str = "info") -> LogEvent:
    return LogEvent(1, None, step, text, level, None, None)


def test_a_terminal_sees_whole_words_and_that_something_goes_on() -> None:
    out, seen = Output(as_json=False), io.StringIO()
    out.__dict__["console"] = Console(file=seen, force_terminal=True, width=80, highlight=False, soft_wrap=True)
    with BuildLog(out) as log:
        log(event("resolve", "choosing versions for linux/amd64: scikit-learn==1.9.1, numpy==2.4.6, scipy==1.17.1"))
    text = seen.getvalue()
    assert "scipy==1.17.1" in text
    assert "0:00:00" in text
    assert text.endswith("\x1b[2K")  # the line that turns is gone at the end


def test_a_file_sees_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with BuildLog(Output(as_json=False)) as log:
        log(event("resolve", "choosing"))
        log(event("resolve", "chosen"))
        log(event("base", "it is old", "warning"))
    assert capsys.readouterr().out.splitlines() == ["--> resolve: choosing", "    chosen", "    warning: it is old"]


def test_how_it_ended_is_left_to_who_asked_for_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with BuildLog(Output(as_json=False)) as log:
        log(event("resolve", "choosing"))
        log(event("failed", "package 'x': no index has it", "error"))
    assert capsys.readouterr().out == "--> resolve: choosing\n"
