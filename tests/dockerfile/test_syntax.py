"""Lines, comments, continuations, directives and flags."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.dockerfile import Copy, DockerfileInvalid, Instruction, evaluate, parse_dockerfile


def parse(text: str) -> list[Instruction]:
    return list(parse_dockerfile(text.encode(), "Dockerfile"))


def rests(text: str) -> list[tuple[str, str, int]]:
    return [(one.name, one.rest, one.line) for one in parse(text)]


def test_lines_are_joined_and_comments_within_dropped() -> None:
    text = "# a\n\nENV A=1 \\\n  # no\n\n  B=2\nrun echo a \\  \n && echo b\n  user x"
    assert rests(text) == [("ENV", "A=1   B=2", 3), ("RUN", "echo a  && echo b", 7), ("USER", "x", 9)]


def test_two_escapes_at_the_end_join_nothing() -> None:
    assert rests("ENV A=x\\\\\nUSER b") == [("ENV", "A=x\\\\", 1), ("USER", "b", 2)]


def test_the_last_line_may_end_in_an_escape() -> None:
    assert rests("RUN a \\") == [("RUN", "a", 1)]


def test_a_byte_order_mark_and_the_line_ends_of_windows_are_read() -> None:
    assert [one.rest for one in parse_dockerfile(b"\xef\xbb\xbfENV A=1 \\\r\n B=2\r\nUSER x\r\n", "f")] == [
        "A=1  B=2",
        "x",
    ]


def test_another_escape_is_taken_from_the_directive_at_the_top() -> None:
    text = "# syntax=docker/dockerfile:1\n# escape=`\nENV A=C:\\x `\n B=2\nENV C=`$A"
    instructions = parse_dockerfile(text.encode(), "f")
    assert [one.line for one in instructions] == [3, 5]
    assert evaluate(instructions, {}, "/").settings.env == {"A": "C:\\x", "B": "2", "C": "$A"}


def test_after_the_top_it_is_a_comment() -> None:
    assert rests("# a comment\n# escape=`\nENV A=1 \\\n B=2") == [("ENV", "A=1  B=2", 3)]


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("# escape=x\n", 1, "the escape character can be"),
        ("# escape=`\n# escape=`\n", 2, "is there twice"),
        ("ENV A=1\nFOO bar", 2, "'FOO' is no instruction"),
        ("\n\nCOPY", 3, "COPY needs something after it"),
        ("COPY <<EOF /x\nhi\nEOF", 1, "here-documents"),
        ("RUN <<EOF\nhi\nEOF", 1, "here-documents"),
        ("RUN cat <<-'EOF' > x\nhi\nEOF", 1, "here-documents"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(DockerfileInvalid, match=why) as caught:
        parse(text)
    assert caught.value.line == line


def test_no_text_is_named_with_its_line() -> None:
    with pytest.raises(DockerfileInvalid, match="line 2: this is no UTF-8 text"):
        parse_dockerfile(b"ENV A=1\nENV B=\xff\n", "f")


def test_shifts_of_a_shell_are_no_here_documents() -> None:
    assert rests("RUN echo $((1<<2)) a<<b")[0][0] == "RUN"


def test_flags_and_the_list_form_are_told_apart() -> None:
    (one,) = parse('COPY --chown=1:2 --link ["a b", "c"]')
    assert (one.flags, one.as_list()) == ((("chown", "1:2"), ("link", "")), ["a b", "c"])
    assert parse("RUN [ -e /x ] || true")[0].as_list() is None


@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_it_is_read_or_refused(content: bytes) -> None:
    with suppress(DockerfileInvalid):
        evaluate(parse_dockerfile(content, "f"), {"A": "1"}, "/w")


_NAMES = "ENV COPY RUN LABEL ADD USER WORKDIR EXPOSE ARG HEALTHCHECK VOLUME SHELL CMD"
_MARKS = (
    "A=1",
    "$A",
    "${A:-b}",
    "${",
    "}",
    '"',
    "'",
    "\\",
    "\n",
    " ",
    "[",
    "]",
    "*",
    "--chown=1",
    "/x",
    "..",
    ":",
    "é",
)
_WORDS = st.sampled_from([*(f"{name} " for name in _NAMES.split()), *_MARKS])


@given(st.lists(_WORDS, max_size=25))
def test_whatever_the_words_are_it_is_read_or_refused_with_a_line(words: list[str]) -> None:
    text = "".join(words)
    refused: DockerfileInvalid | None = None
    targets: list[str] = []
    try:
        evaluated = evaluate(parse_dockerfile(text.encode(), "f"), {}, "/w")
        targets = [step.target for step in evaluated.steps if isinstance(step, Copy)]
    except DockerfileInvalid as e:
        refused = e
    assert refused is None or (refused.line is not None and 1 <= refused.line <= text.count("\n") + 1)
    assert not any(".." in target.split("/") for target in targets)
