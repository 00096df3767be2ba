"""Patterns of COPY and of .dockerignore."""

import fnmatch
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.dockerfile import Ignored, matches


@pytest.mark.parametrize(
    ("pattern", "path", "is_one"),
    [
        ("*.txt", "a.txt", True),
        ("*.txt", "b/a.txt", False),
        ("*/a.txt", "b/a.txt", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a]x", "/x", False),
        ("[]-]x", "-x", False),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a.c", "abc", False),
        ("**", "a/b", False),
    ],
)
def test_of_copy(pattern: str, path: str, is_one: bool) -> None:
    try:
        found = matches(pattern, path)
    except ValueError:
        found = False
    assert found is is_one


@pytest.mark.parametrize("pattern", ["[", "[]", "[a", "[z-a]", "a\\", "[a-"])
def test_broken_ones_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        matches(pattern, "a")


@pytest.mark.parametrize(
    ("text", "out", "stays"),
    [
        ("*.pyc", ["a.pyc"], ["b/a.pyc"]),
        ("**/*.pyc", ["a.pyc", "b/a.pyc", "b/c/a.pyc"], ["a.py"]),
        ("data", ["data", "data/x", "data/y/z"], ["datas", "x/data"]),
        ("/data/", ["data/x"], ["x/data"]),
        ("*\n!keep\n", ["a", "b/c"], ["keep", "keep/x"]),
        ("data\n!data/keep.txt", ["data/x"], ["data/keep.txt"]),
        ("# no\n\n  a  ", ["a"], ["no"]),
        ("data/**", ["data/x", "data/x/y"], ["a"]),
        ("./a", ["a"], ["b"]),
        ("#a", [], ["#a"]),
        (".", [], ["a"]),
    ],
)
def test_of_dockerignore(text: str, out: list[str], stays: list[str]) -> None:
    ignored = Ignored.parse(text)
    assert [path for path in (*out, *stays) if ignored.leaves_out(path)] == out


def test_a_broken_dockerignore_is_named_with_its_line() -> None:
    with pytest.raises(ValueError, match="line 2: the pattern"):
        Ignored.parse("a\n[b\n")


@given(st.text("ab*?.", max_size=8), st.text("ab.", max_size=8))
def test_without_folders_it_is_what_shells_do(pattern: str, name: str) -> None:
    assert matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_the_pattern_is_it_answers_or_is_refused(pattern: str, path: str) -> None:
    with suppress(ValueError):
        matches(pattern, path)
        Ignored.parse(pattern).leaves_out(path)
