"""What the device shall run: the last desired properties of $edgeAgent that were good, kept on disk.

New ones that are Invalid are reported and change nothing; so are empty ones.
"""

import logging
from pathlib import Path
from typing import Any

from sanderling.edge.disk import find_json, write_json
from sanderling.errors import Invalid
from sanderling.iot import AgentConfig
from sanderling.oci import Reference

_log = logging.getLogger(__name__)

Json = dict[str, Any]


class DesiredState:
    """The desired state of one device."""

    def __init__(self, path: Path) -> None:
        """Start with what is kept at *path*."""
        self._path = path
        self.config: AgentConfig | None = None
        self.version: int | None = None
        self.status: Json = {"code": 417, "description": "nothing is deployed to this device yet"}
        self.generation = 0
        kept = find_json(path)
        if isinstance(kept, dict):
            self._take(kept)

    def update(self, desired: Json) -> None:
        """Take new desired properties; the last good ones stay when these are wrong or empty."""
        if set(desired) <= {"$version"}:
            self.version = desired.get("$version")
            return
        if self._take(desired):
            write_json(self._path, desired)

    def _take(self, desired: Json) -> bool:
        self.version = desired.get("$version")
        try:
            config = AgentConfig.parse(desired)
            for name, spec in config.modules.items():
                _check_reference(name, spec.image)
        except Invalid as e:
            _log.error("the desired state is refused, the last good one stays: %s", e)
            self.status = {"code": 400, "description": e.message}
            return False
        self.config = config
        self.status = {"code": 200, "description": ""}
        self.generation += 1
        return True


def _check_reference(name: str, image: str) -> None:
    try:
        Reference.parse(image)
    except Invalid as e:
        raise Invalid(f"module {name!r}: {e.message}") from e
