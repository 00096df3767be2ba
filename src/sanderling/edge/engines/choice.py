"""Chooses the engine: Docker where its API answers, else bubblewrap."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sanderling.edge.engines.bubblewrap import BubblewrapEngine
from sanderling.edge.engines.docker import find_docker
from sanderling.edge.engines.port import ContainerEngine
from sanderling.edge.engines.stage import Stage
from sanderling.edge.layout import Layout
from sanderling.edge.settings import EngineName
from sanderling.errors import Invalid, Unavailable
from sanderling.sandbox.launch import find_bwrap


@dataclass(frozen=True, slots=True)
class Gateway:
    """How modules find the edge hub: lines for /etc/hosts, or the name that Docker is to lead here."""

    hosts: str
    docker_name: str


async def check_bwrap(bwrap: Path, data: Path) -> None:
    """Raise `Unavailable`, with the way out, when this machine does not let bubblewrap make a sandbox."""
    try:
        async with asyncio.timeout(20):
            process = await asyncio.create_subprocess_exec(
                *Stage(bwrap, data, "").probe(),
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


async def choose_engine(
    name: EngineName, layout: Layout, device_id: str, gateway: Gateway, changed: Callable[[], None]
) -> ContainerEngine:
    """Return the engine *name*; `auto` takes Docker where its API answers, else bubblewrap.

    Raises `Unavailable` with the way out when it does not work here.
    """
    if name in ("docker", "auto"):
        try:
            return await find_docker(device_id, gateway.docker_name)
        except (Unavailable, Invalid):
            if name == "docker":
                raise
    bwrap = find_bwrap()
    if bwrap is None:
        raise Unavailable(
            "no engine can run modules here: Docker's API does not answer and bubblewrap is not installed; "
            "install `sanderling[edge]` (it has bubblewrap), or Docker"
        )
    await check_bwrap(bwrap, layout.root)
    return BubblewrapEngine(layout, bwrap, gateway.hosts, changed)
