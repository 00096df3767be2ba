import marshal
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from sanderling.errors import Unavailable
from sanderling.image.layers.bytecode import CompiledSources, Compiler, find_compiler, is_worth_compiling
from sanderling.image.layers.tree import Entry

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def compiler() -> Compiler:
    found = find_compiler(VERSION)
    assert found is not None
    return found


def sources() -> list[Entry]:
    """Sources that share names and constants in many ways, taken from the standard library."""
    from importlib.util import find_spec

    names = ["argparse", "ast", "dataclasses", "enum", "typing", "tarfile", "asyncio.tasks", "json.decoder", "inspect"]
    found = []
    for name in names:
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        with open(spec.origin, "rb") as file:  # noqa: PTH123 - the path of a loader is text
            found.append(Entry(f"usr/lib/{name.replace('.', '/')}.py", "file", 0o644, file.read()))
    return found


def test_bytecode_is_unchecked_and_knows_its_place_in_the_image(compiler: Compiler) -> None:
    (made,) = compiler.compile([Entry("usr/lib/a/b.py", "file", 0o644, b"def f(): return 7\n")])
    assert made.path == f"usr/lib/a/__pycache__/b.{compiler.tag}.pyc"
    assert isinstance(made.content, bytes)
    assert made.content[4:8] == b"\x01\0\0\0"
    code = marshal.loads(made.content[16:])
    assert isinstance(code, types.CodeType)
    assert code.co_filename == "/usr/lib/a/b.py"


def test_the_bytes_do_not_depend_on_what_is_compiled_before_or_beside(compiler: Compiler) -> None:
    entries = sources()
    together = {entry.path: entry.content for entry in compiler.compile(entries)}
    backwards = {entry.path: entry.content for entry in compiler.compile(entries[::-1])}
    alone = {made.path: made.content for entry in entries for made in compiler.compile([entry])}
    assert together == backwards == alone


def test_a_source_that_is_no_python_has_no_bytecode_and_harms_no_other(compiler: Compiler) -> None:
    entries = [
        Entry("a.py", "file", 0o644, b"print 1"),
        Entry("b.py", "file", 0o644, b"\0"),
        Entry("c.py", "file", 0o644, b""),
    ]
    assert [entry.path for entry in compiler.compile(entries)] == [f"__pycache__/c.{compiler.tag}.pyc"]


def test_the_compiler_does_not_execute_what_it_compiles(compiler: Compiler) -> None:
    assert len(list(compiler.compile([Entry("a.py", "file", 0o644, b"raise SystemExit(1)")]))) == 1


def test_a_compiler_that_dies_is_said_to_be_unavailable() -> None:
    with pytest.raises(Unavailable, match="compiler ended with code"):
        list(Compiler("/bin/false", "3.11.0").compile([Entry("a.py", "file", 0o644, b"")]))


def test_there_is_no_compiler_for_a_python_that_is_not_here() -> None:
    assert find_compiler("3.99") is None


def test_python_accepts_the_bytecode_without_looking_at_the_source(compiler: Compiler, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (made,) = compiler.compile([Entry("mod.py", "file", 0o644, b"x = 'from bytecode'\n")])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / made.path).write_bytes(bytes(made.content))  # type: ignore[arg-type]
    (tmp_path / "mod.py").write_text("x = 'from source'\n")
    code = "import mod; print(mod.x)"
    out = subprocess.run([compiler.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout == "from bytecode\n"


def test_tests_of_packages_are_not_worth_compiling() -> None:
    assert is_worth_compiling("usr/lib/sklearn/base.py")
    assert not is_worth_compiling("usr/lib/sklearn/tests/test_base.py")
    assert not is_worth_compiling("usr/lib/sklearn/base.pyi")


def test_what_was_compiled_before_is_not_compiled_again(compiler: Compiler) -> None:
    memory, entries = CompiledSources(), sources()
    first = list(compiler.compile(entries, memory))
    dead = Compiler("/bin/false", compiler.version)
    assert list(dead.compile(entries[::-1], memory)) == first[::-1]
    with pytest.raises(Unavailable):
        list(dead.compile([Entry("new.py", "file", 0o644, b"")], memory))
    # A failure is not remembered.
    assert len(list(compiler.compile([Entry("new.py", "file", 0o644, b"")], memory))) == 1


def test_two_threads_with_the_same_sources_share_the_work(compiler: Compiler) -> None:
    memory, entries = CompiledSources(), sources()
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda order: list(compiler.compile(order, memory)), (entries, entries[::-1])))
    assert both[0] == both[1][::-1]
    assert len(both[0]) == len(entries)


def test_a_compilation_that_is_stopped_ends_soon_and_makes_nobody_wait(compiler: Compiler) -> None:
    memory = CompiledSources()
    with pytest.raises(Unavailable, match="was stopped"):
        list(compiler.compile(sources(), memory, lambda: True))
    assert len(list(compiler.compile(sources(), memory))) == len(sources())


def test_bytecode_has_lines_and_no_columns(compiler: Compiler) -> None:
    (made,) = compiler.compile([Entry("a.py", "file", 0o644, b"x = 1\n\ny = undefined\n")])
    assert isinstance(made.content, bytes)
    code = marshal.loads(made.content[16:])
    assert {line for _, _, line in code.co_lines() if line} == {1, 3}
    assert {(place[2], place[3]) for place in code.co_positions()} == {(None, None)}
