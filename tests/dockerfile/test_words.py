"""Quotes, escapes and variables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.dockerfile.words import WordInvalid, expand, split_words

VARIABLES = {"A": "a", "EMPTY": "", "LONG_1": "l"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("a='x y' b", ["a='x y'", "b"]),
        ('"a \\" b" c', ['"a \\" b"', "c"]),
        ("a\\ b c", ["a\\ b", "c"]),
        ("'a\\' b", ["'a\\'", "b"]),
        ("", []),
    ],
)
def test_words_are_split_at_blanks_that_are_not_quoted(text: str, words: list[str]) -> None:
    assert split_words(text, "\\") == words


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("$A", "a"),
        ("${A}b$A", "aba"),
        ("$LONG_1-x", "l-x"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A"', "a"),
        ('"\\$A \\" \\\\ \\n"', '$A " \\ \\n'),
        ("a\\ b", "a b"),
        ("$NONE", ""),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}${EMPTY-y}", "x"),
        ("${A:-x}${A-y}", "aa"),
        ("${A:+x}${NONE:+y}${EMPTY+z}", "xz"),
        ("${NONE:-${A}/b}", "a/b"),
        ("${NONE:-'}'}x", "}x"),
        ("${A:?must}", "a"),
        ("$", "$"),
        ("$$A", "$a"),
        ("$1$@", ""),
        ("a$/b", "a$/b"),
    ],
)
def test_variables_are_put_in_and_quotes_taken_off(word: str, value: str) -> None:
    assert expand(word, VARIABLES, "\\") == value


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("${A", "followed by"),
        ("${A:-x", "opened and not closed"),
        ("${}", "the name of a variable"),
        ("${NONE:?is needed}", "NONE is not set: is needed"),
        ("${A#x}", "followed by"),
        ("'a", "a ' is opened"),
        ('"a', 'a " is opened'),
        ("${A:-" * 30, "too deep"),
    ],
)
def test_what_is_not_closed_or_not_known_is_refused(word: str, why: str) -> None:
    with pytest.raises(WordInvalid, match=why):
        expand(word, VARIABLES, "\\")


@given(st.text(max_size=60))
def test_a_value_in_single_quotes_is_itself(value: str) -> None:
    plain = value.replace("'", "")
    assert expand(f"'{plain}'", VARIABLES, "\\") == plain


@given(st.text(max_size=60))
def test_a_value_with_every_letter_escaped_is_itself_and_one_word(value: str) -> None:
    escaped = "".join(f"\\{c}" for c in value)
    assert expand(escaped, VARIABLES, "\\") == value
    assert split_words(escaped, "\\") == ([escaped] if value else [])
