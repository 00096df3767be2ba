import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.edge.cloud import Cloud


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A registry and a hub, started."""
    made = Cloud(tmp_path / "cloud")
    made.start()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
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
