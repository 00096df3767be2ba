"""Bytecode for an image, so that nothing is compiled at each start on a device.

The compiler must be a Python of the image's own minor version; the processor
does not matter. When there is none on this machine, the image has no bytecode
and the log says so.

Bytecode keeps line numbers and leaves out columns (Python's own option
no_debug_ranges): a traceback names the line, without marks below it. Columns
would be a fifth of the bytes. The user's own script is not compiled and has them.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from sanderling.errors import Unavailable
from sanderling.image.layers.tree import Entry

_PROGRAM = Path(__file__).with_name("compile_sources.py")
CHUNK_BYTES = 2 << 20
TIMEOUT_S = 600
_OPTIONS = ("-X", "no_debug_ranges")
_ASK = "import sys,importlib.util as u;print('%d.%d.%d'%sys.version_info[:3],u.MAGIC_NUMBER.hex())"


@dataclass(frozen=True, slots=True)
class Compiler:
    """A Python that makes bytecode for images of its minor version. *version* is full, as "3.11.7"."""

    executable: str
    version: str

    @property
    def identity(self) -> str:
        """All of the compiler that the bytes depend on."""
        return f"{self.version} {' '.join(_OPTIONS)}"

    @property
    def tag(self) -> str:
        """What pyc files have in their names, as "cpython-311"."""
        major, minor, _ = self.version.split(".")
        return f"cpython-{major}{minor}"

    def compile(
        self, sources: Iterable[Entry], memory: "CompiledSources | None" = None, stopped: Callable[[], bool] = bool
    ) -> Iterator[Entry]:
        """Yield the bytecode file of each of *sources* that compiles, in their order.

        The work is one process for each two megabytes. What *memory* has is not compiled again. Raises
        Unavailable when that process dies, and when *stopped* says so before the end.
        """
        memory = memory or CompiledSources()
        # What is no bytes is larger than any source.
        held = [(entry.path, entry.content) for entry in sources if isinstance(entry.content, bytes)]
        claimed = [memory.claim(path, source) for path, source in held]
        try:
            self._compile_claimed([one for one in claimed if one.is_mine], stopped)
        finally:
            for one in claimed:
                one.give_up()
        for one in claimed:
            content = one.result.result()
            if content:
                yield Entry(self.place(one.path), "file", 0o644, content)

    def _compile_claimed(self, claimed: "list[Claim]", stopped: Callable[[], bool]) -> None:
        """Compile all of *claimed* in packs."""
        while claimed and not stopped():
            pack, count = bytearray(), 0
            while count < len(claimed) and len(pack) < CHUNK_BYTES:
                for piece in (claimed[count].path.encode(), claimed[count].source):
                    pack += len(piece).to_bytes(4, "little") + piece
                count += 1
            for one, (_, content) in zip(claimed[:count], self._compile_pack(bytes(pack)), strict=True):
                one.result.set_result(content)
            claimed = claimed[count:]

    def _compile_pack(self, pack: bytes) -> list[tuple[str, bytes]]:
        command = [self.executable, "-I", "-S", "-B", *_OPTIONS, "-X", "utf8", "-W", "ignore", str(_PROGRAM)]
        try:
            done = subprocess.run(
                command, input=pack, capture_output=True, timeout=TIMEOUT_S, check=True, env=_environment()
            )
        except subprocess.CalledProcessError as e:
            raise Unavailable(f"the bytecode compiler ended with code {e.returncode}") from e
        except subprocess.TimeoutExpired as e:
            raise Unavailable(f"the bytecode compiler was not done after {TIMEOUT_S} s") from e
        return list(_unpack(done.stdout))

    def place(self, path: str) -> str:
        """Where the bytecode of the source at *path* belongs."""
        folder, slash, name = path.rpartition("/")
        return f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.{self.tag}.pyc"


@dataclass(frozen=True, slots=True)
class Claim:
    """A source that is to be compiled by who claimed it first (*is_mine*); others wait for the *result*."""

    path: str
    source: bytes
    result: Future[bytes]
    is_mine: bool

    def give_up(self) -> None:
        """Let nobody wait for what will not come."""
        if self.is_mine and not self.result.done():
            self.result.set_exception(Unavailable("the bytecode was not made because the build was stopped"))


class CompiledSources:
    """What one build has compiled: a package for two processors has the same sources, which are compiled once."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, bytes], Future[bytes]] = {}
        self._lock = threading.Lock()

    def claim(self, path: str, source: bytes) -> Claim:
        """A place for the bytecode of *source* at *path*."""
        key = (path, hashlib.sha256(source).digest())
        with self._lock:
            known = self._results.get(key)
            if known is not None and not (known.done() and known.exception()):
                return Claim(path, source, known, False)
            self._results[key] = made = Future[bytes]()
            return Claim(path, source, made, True)


def _environment() -> dict[str, str]:
    """No variable of ours may change what the compiler writes."""
    return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}


def _unpack(data: bytes) -> Iterator[tuple[str, bytes]]:
    position = 0
    while position < len(data):
        pieces = []
        for _ in range(2):
            length = int.from_bytes(data[position : position + 4], "little")
            pieces.append(data[position + 4 : position + 4 + length])
            position += 4 + length
        yield pieces[0].decode(), pieces[1]


def find_compiler(python: str) -> Compiler | None:
    """A compiler for images with Python *python* ("3.11"), or None when this machine has none."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if version.startswith(f"{python}.") and sys.implementation.name == "cpython" and MAGIC_NUMBER:
        return Compiler(sys.executable, version)
    executable = shutil.which(f"python{python}")
    if executable is None:
        return None
    try:
        asked = subprocess.run([executable, "-I", "-S", "-c", _ASK], capture_output=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return None
    version = asked.stdout.decode().split()[0]
    return Compiler(executable, version) if version.startswith(f"{python}.") else None


def is_worth_compiling(path: str) -> bool:
    """Whether the source at *path* may be imported on a device: tests of packages are not."""
    return path.endswith(".py") and "/tests/" not in path and "/test/" not in path
