"""Bytecode of packages, made valid for sources without a time."""

import importlib.util
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from sanderling.image.conda.bytecode import source_of, unchecked

SOURCE = b"value = 'compiled'\n"


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_bytes(SOURCE)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


@pytest.mark.parametrize("mode", ["TIMESTAMP", "CHECKED_HASH", "UNCHECKED_HASH"])
def test_python_uses_it_though_the_time_of_the_source_is_zero(module: Path, mode: str) -> None:
    compiled = Path(
        py_compile.compile(str(module), doraise=True, invalidation_mode=py_compile.PycInvalidationMode[mode])
    )
    content = unchecked(compiled.read_bytes(), SOURCE, module.stat())
    assert content is not None
    # Told apart from a new compilation by its constant.
    compiled.write_bytes(content.replace(b"compiled", b"ASINPACK"))
    os.utime(module, (0, 0))
    code = f"import sys; sys.path.insert(0, {str(module.parent)!r}); import module; print(module.value)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ASINPACK\n"


def test_it_is_refused_when_it_is_not_of_this_source(module: Path) -> None:
    compiled = Path(py_compile.compile(str(module), doraise=True)).read_bytes()
    was = module.stat()
    assert unchecked(compiled, SOURCE + b"# with another prefix\n", was) is None
    os.utime(module, (1, 1))
    assert unchecked(compiled, SOURCE, module.stat()) is None
    assert unchecked(compiled[:12], SOURCE, was) is None
    assert unchecked(b"", SOURCE, was) is None


def test_a_hash_of_another_source_is_refused(module: Path) -> None:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compiled = Path(py_compile.compile(str(module), doraise=True, invalidation_mode=mode)).read_bytes()
    assert unchecked(compiled, SOURCE.replace(b"value", b"other"), module.stat()) is None


def test_the_source_of_bytecode_is_known_by_its_path() -> None:
    assert source_of("a/__pycache__/m.cpython-311.pyc") == "a/m.py"
    assert source_of("__pycache__/m.cpython-313.opt-1.pyc") == "m.py"
    assert source_of(importlib.util.cache_from_source("/x/m.py")) == "/x/m.py"
    assert source_of("a/m.pyc") is None
    assert source_of("a/m.py") is None
