import os
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # worlds.py, beside the tests


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> object:
    yield
    mine = [p for p in Path("/proc").iterdir() if p.name.isdigit() and _parent(p) == os.getpid()]
    bwrap = [p.name for p in mine if b"--args" in _read(p / "cmdline")]
    assert not bwrap, f"sandboxes are left: {bwrap}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parent(folder: Path) -> int:
    text = _read(folder / "stat").decode(errors="replace")
    return int(text.rpartition(")")[2].split()[1]) if text else 0
