"""One line a time on standard error, in the form that azureml's server writes.

The logging package is left to the script: importing it costs every start, and
its root logger belongs to the user.
"""

from __future__ import annotations

import os
import sys
import time


def _write(level: str, text: str) -> None:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    line = f"{stamp},{int(now % 1 * 1000):03d} {level} [{os.getpid()}] sanderling.scoring - {text}\n"
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody reads our log any more; that must not stop the scoring


def info(text: str) -> None:
    """Write what happened as it should."""
    _write("I", text)


def warning(text: str) -> None:
    """Write what may need a look."""
    _write("W", text)


def error(text: str) -> None:
    """Write what failed."""
    _write("E", text)
