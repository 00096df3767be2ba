"""The device: pulls and runs modules, routes their messages, and goes on without the server.

    async with asyncio.TaskGroup() as group:
        group.create_task(run(EdgeSettings(connection_string="HostName=...", data=Path("/var/lib/sanderling"))))

`run` keeps one device going until it is cancelled or gets SIGTERM or SIGINT; `main`
does that from ordinary code. Where things are on disk is drawn in `layout.py`, how
the parts are joined in `runtime.py`.
"""

import asyncio

from sanderling.edge.runtime import Device, run
from sanderling.edge.settings import EdgeSettings

__all__ = ["Device", "EdgeSettings", "main", "run"]


def main(settings: EdgeSettings) -> None:
    """Run the device until SIGTERM or Ctrl-C. Raises what `run` raises."""
    asyncio.run(run(settings))
