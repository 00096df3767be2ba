"""Any bytes are read or refused with a place; nothing else comes out of the readers."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sanderling.image.environment.conda_file import parse_environment
from sanderling.image.environment.environment import EnvironmentInvalid
from sanderling.image.environment.requirements_file import parse_requirements

WORDS = [
    *("numpy", "==1.0", ">=2", "[x]", " ; python_version<'3'", " @ ", "https://", "http://[", "file://", "git+", "::"),
    *(".whl", "/", "./", "\\", "..", "#", " #", "-r ", "-c ", "-i ", "--hash=sha256:", "--pre", "--index-url=", "${A}"),
    *("${SANDERLING_INDEX_A}", "'", '"', " ", "\n", "\x00", "é", "=", "a-1-py3-none-any.whl", "me:pw@h", "%zz", "]"),
]
LINES = st.lists(st.sampled_from(WORDS), max_size=8).map("".join)


@given(st.lists(LINES, max_size=4).map("\n".join))
@example("https://[x/a-1-py3-none-any.whl")
@example("a @ http://[.whl")
@example("file://[/a-1-py3-none-any.whl")
@example("-i http://[")
@example("a @ https://h:p/a-1-py3-none-any.whl")
def test_any_requirements_are_read_or_refused(text: str) -> None:
    with suppress(EnvironmentInvalid):
        parse_requirements(text.encode(), variables={"SANDERLING_INDEX_A": "x"})


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for parse in (parse_environment, parse_requirements):
        with suppress(EnvironmentInvalid):
            parse(content)


YAML = st.lists(
    st.sampled_from(
        [
            *(
                "dependencies:",
                "channels:",
                "name:",
                "  - ",
                "    - ",
                "pip:",
                "python=3.11",
                "a: b",
                "[",
                "]",
                "{",
                "}",
            ),
            *("\n", "&a ", "*a", "? ", "!!python/object:os.system ", "|", "'", "# [linux]", "sel(win):", "null", "1.5"),
        ]
    ),
    max_size=14,
).map("".join)


@given(YAML)
@example("dependencies:\n  - ? {a: b}\n    : c\n")
@example("dependencies:\n  - ? [a]\n    : c\n")
@example("? [a]\n: b\n")
@example("name: {a: b}\n")
@example("dependencies: &a\n  - pip: *a\n")
@example("dependencies: !!set {a, b}\n")
def test_any_yaml_is_read_or_refused(text: str) -> None:
    with suppress(EnvironmentInvalid):
        parse_environment(text.encode())


def test_the_lines_of_a_pip_list_are_no_less_careful(make_wheel: Callable[..., Path]) -> None:
    wheel = make_wheel("mine", "1.0", {})
    for line in (
        "a @ https://[x/b-1-py3-none-any.whl",
        "./mine-1.0-py3-none-any.whl[",
        "./mine-1.0-py3-none-any.whl ; x",
    ):
        with pytest.raises(EnvironmentInvalid, match=r"e\.yml, line 3"):
            parse_environment(f"dependencies:\n  - pip:\n    - '{line}'\n".encode(), "e.yml", {wheel.name: wheel})
