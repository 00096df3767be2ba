from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest


@pytest.fixture
def project(up: Any, tmp_path: Path) -> Path:
    """A folder with a config.json for a workspace of the test's own."""
    done = up.cli("init", "--name", f"c-{uuid4().hex[:8]}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path
