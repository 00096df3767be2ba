"""A scoring process a test, on a free port, in a folder of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.scoring.serving import ScoringProcess

Serve = Callable[..., ScoringProcess]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Write score.py and start the real process; all are killed at the end."""
    started: list[ScoringProcess] = []

    def start(source: str | None, **options: Any) -> ScoringProcess:
        if source is not None:
            (tmp_path / "score.py").write_text(dedent(source))
        process = ScoringProcess(tmp_path, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()
