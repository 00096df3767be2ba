"""Documents that are made from the program say what the program says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_the_command_line_is_what_the_commands_say() -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "docs" / "cli_reference.py", "--check"], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_the_recording_holds_no_secret() -> None:
    text = (ROOT / "docs" / "images" / "demo.txt").read_text()
    assert "sign-in#..." in text
    for line in text.splitlines():
        if line.strip().startswith("password"):
            assert line.split()[-1] == "..."
