import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.image.script import ScriptInvalid, check_script


def test_a_script_with_init_and_run_is_accepted() -> None:
    check_script(b"def init(): pass\ndef run(data): return data\n")


@pytest.mark.parametrize(
    "source",
    [
        b"from helper import init, run\n",
        b"from helper import *\n",
        b"def init(): ...\nrun = lambda data: data\n",
        b"class Run: ...\ninit, run = Run, Run()\n",
        b"def init(): ...\ntry:\n    from fast import run\nexcept ImportError:\n    def run(d): return d\n",
        b"if True:\n    def init(): ...\n    async def run(d): return d\n",
    ],
)
def test_init_and_run_may_be_bound_in_any_way(source: bytes) -> None:
    check_script(source)


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        (b"def init(): pass\n\ndef score(data): return data\n", 3, "no function 'run'"),
        (b"def run(data): return data\n", 1, "no function 'init'"),
        (b"class Model:\n    def init(self): ...\n    def run(self, d): ...\n", 3, "no function 'init'"),
        (b"def init(): pass\ndef run(data)\n    return data\n", 2, "no Python 3.11"),
        (b"print 'hello'\n", 1, "no Python 3.11"),
        (b"", 1, "no function 'init'"),
    ],
)
def test_a_script_that_cannot_score_is_refused_with_its_line(source: bytes, line: int, words: str) -> None:
    with pytest.raises(ScriptInvalid, match=words) as caught:
        check_script(source)
    assert caught.value.line == line
    assert f"score.py, line {line}" in caught.value.message


def test_the_script_is_not_executed() -> None:
    check_script(b"raise SystemExit('executed')\ndef init(): ...\ndef run(d): ...\n")


@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_refused_and_nothing_else_happens(source: bytes) -> None:
    with contextlib.suppress(ScriptInvalid):
        check_script(source)
