"""The twins of devices and modules, in SQL.

Rules: limits are checked on the merged section, before anything is written; each change is one transaction and makes
the twin's version one greater; whoever changes desired properties gets the patch that connected clients must see.
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, select, update

from sanderling.errors import Invalid
from sanderling.hub import tables
from sanderling.hub.errors import PreconditionFailed
from sanderling.hub.identities import get_in
from sanderling.iot.twin import Json, Section, TwinLimits, check, difference, merge

_TABLE = tables.twins.c


@dataclass(frozen=True, slots=True)
class Twin:
    """What the hub keeps of a device or module."""

    device_id: str
    module_id: str | None
    version: int
    tags: Json
    desired: Section
    reported: Section

    @property
    def etag(self) -> str:
        """Changes with every change of the twin."""
        return base64.b64encode(self.version.to_bytes(8, "big")).decode()


@dataclass(frozen=True, slots=True)
class DesiredChange:
    """The desired properties of a client changed: *patch* leads from what it had to *version*."""

    device_id: str
    module_id: str | None
    patch: Json
    version: int


class Twins:
    """All twins of the hub. Methods block."""

    def __init__(self, engine: Engine, limits: TwinLimits, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self.limits = limits
        self._clock = clock

    def get(self, device_id: str, module_id: str | None = None) -> Twin:
        """Return the twin. Raises DeviceNotFound or ModuleNotFound."""
        with self._engine.connect() as db:
            return self.get_in(db, device_id, module_id)

    def patch(
        self, device_id: str, module_id: str | None, document: Mapping[str, Any], *, if_match: str | None = None
    ) -> tuple[Twin, DesiredChange | None]:
        """Merge ``tags`` and ``properties.desired`` of *document* into the twin. Raises NotFound, Conflict, Invalid."""
        tags, desired = _parts(document)
        with self._engine.begin() as db:
            before = self.get_in(db, device_id, module_id, if_match)
            after = replace(before, tags=before.tags if tags is None else merge(before.tags, tags))
            if desired is not None:
                after = replace(after, desired=before.desired.patched(desired, self._stamp()))
            return self._write(db, before, after)

    def replace(
        self, device_id: str, module_id: str | None, document: Mapping[str, Any], *, if_match: str | None = None
    ) -> tuple[Twin, DesiredChange | None]:
        """Put ``tags`` and ``properties.desired`` of *document* in place of the twin's."""
        tags, desired = _parts(document)
        with self._engine.begin() as db:
            before = self.get_in(db, device_id, module_id, if_match)
            after = replace(before, tags=merge({}, tags or {}))
            return self._write(
                db, before, replace(after, desired=before.desired.replaced(desired or {}, self._stamp()))
            )

    def replace_desired_in(
        self, db: Connection, device_id: str, module_id: str, desired: Mapping[str, Any]
    ) -> DesiredChange | None:
        """Replace a module's desired properties as a part of the caller's transaction."""
        before = self.get_in(db, device_id, module_id)
        return self._write(db, before, replace(before, desired=before.desired.replaced(desired, self._stamp())))[1]

    def report(self, device_id: str, module_id: str | None, patch: Mapping[str, Any]) -> int:
        """Merge *patch* into the reported properties; return their new version. Raises NotFound or Invalid."""
        with self._engine.begin() as db:
            before = self.get_in(db, device_id, module_id)
            after = replace(before, reported=before.reported.patched(patch, self._stamp()))
            check("reported", after.reported.values, self.limits)
            self._write(db, before, after)
            return after.reported.version

    def get_in(self, db: Connection, device_id: str, module_id: str | None, if_match: str | None = None) -> Twin:
        """Return the twin within a transaction. Raises NotFound, or PreconditionFailed when *if_match* is another."""
        get_in(db, device_id, module_id)
        where = (_TABLE.device_id == device_id, _TABLE.module_id == (module_id or ""))
        row = db.execute(select(tables.twins).where(*where)).one()
        twin = Twin(
            device_id,
            module_id,
            row.version,
            row.tags,
            Section(row.desired, row.desired_version, row.desired_metadata),
            Section(row.reported, row.reported_version, row.reported_metadata),
        )
        if if_match not in (None, "*", twin.etag):
            raise PreconditionFailed("the twin")
        return twin

    def _write(self, db: Connection, before: Twin, after: Twin) -> tuple[Twin, DesiredChange | None]:
        check("tags", after.tags, self.limits, limit_bytes=self.limits.tags_bytes)
        check("desired", after.desired.values, self.limits)
        after = replace(after, version=before.version + 1)
        values: Json = {"version": after.version, "tags": after.tags}
        for name, part in (("desired", after.desired), ("reported", after.reported)):
            values |= {name: part.values, f"{name}_version": part.version, f"{name}_metadata": part.metadata}
        where = (_TABLE.device_id == after.device_id, _TABLE.module_id == (after.module_id or ""))
        db.execute(update(tables.twins).where(*where).values(values))
        if after.desired.version == before.desired.version:
            return after, None
        patch = difference(before.desired.values, after.desired.values)
        return after, DesiredChange(after.device_id, after.module_id, patch, after.desired.version)

    def _stamp(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat().replace("+00:00", "Z")


def _parts(document: Mapping[str, Any]) -> tuple[Json | None, Json | None]:
    tags = document.get("tags")
    properties = document.get("properties")
    properties = {} if properties is None else properties
    if not isinstance(properties, dict):
        raise Invalid("'properties' is not a JSON object")
    desired = properties.get("desired")
    for name, value in (("tags", tags), ("properties.desired", desired)):
        if value is not None and not isinstance(value, dict):
            raise Invalid(f"{name!r} is not a JSON object")
    return tags, desired
