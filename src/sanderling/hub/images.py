"""Which images devices run, or are to run: read from the twins of `$edgeAgent`."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, select

from sanderling.hub import tables
from sanderling.iot.identity import EDGE_AGENT


def find_images(engine: Engine) -> set[str]:
    """Return references as deployments have them, and digests as devices report them. Blocks."""
    table = tables.twins.c
    query = select(table.desired, table.reported).where(table.module_id == EDGE_AGENT)
    found: set[str] = set()
    with engine.connect() as db:
        for row in db.execute(query):
            found.update(_named(row.desired))
            found.update(_named(row.reported))
    return found


def _named(properties: Any) -> Iterator[str]:
    """Yield what modules and system modules are of; what devices report has whatever shape they like."""
    for part in ("modules", "systemModules"):
        modules = properties.get(part) if isinstance(properties, dict) else None
        for module in modules.values() if isinstance(modules, dict) else ():
            settings = module.get("settings") if isinstance(module, dict) else None
            for name in ("image", "imageHash"):
                value = settings.get(name) if isinstance(settings, dict) else None
                if isinstance(value, str):
                    yield value
