"""Devices and modules: who may connect, with which keys.

Rules: an edge device always has its modules $edgeAgent and $edgeHub; an identity and its twin come and go in one
transaction; a key that is not given is made here; a deleted identity that comes back has another generation id.
"""

import base64
import binascii
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row

from sanderling.errors import Invalid
from sanderling.hub import tables
from sanderling.hub.errors import (
    DeviceAlreadyExists,
    DeviceNotFound,
    ModuleAlreadyExists,
    ModuleNotFound,
    PreconditionFailed,
)
from sanderling.iot.identity import SYSTEM_MODULES, check_id

_KEY_BYTES = 32
MAX_MODULES = 100  # of a device: it makes its own, and a stolen one would make them without end
_TABLE = tables.identities.c


@dataclass(frozen=True, slots=True)
class Identity:
    """A device (*module_id* is None) or a module. Times are seconds since 1970."""

    device_id: str
    module_id: str | None
    generation_id: str
    revision: int
    is_enabled: bool
    status_reason: str | None
    primary_key: str = field(repr=False)
    secondary_key: str = field(repr=False)
    is_edge: bool
    managed_by: str
    created_at: float
    status_updated_at: float
    connection_updated_at: float | None
    last_activity_at: float | None

    @property
    def etag(self) -> str:
        """Changes with every change of the identity, also when it is deleted and made again."""
        return base64.b64encode(f"{self.generation_id}.{self.revision}".encode()).decode()

    @property
    def keys(self) -> tuple[str, str]:
        """Both keys; a token may be signed with either."""
        return self.primary_key, self.secondary_key

    @property
    def path(self) -> str:
        """The resource that a token for this identity names, without the host."""
        device = f"devices/{self.device_id}"
        return device if self.module_id is None else f"{device}/modules/{self.module_id}"


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """What a caller asks for; None keeps what is there, or takes the default when it is new."""

    is_enabled: bool | None = None
    status_reason: str | None = None
    primary_key: str | None = field(default=None, repr=False)
    secondary_key: str | None = field(default=None, repr=False)
    is_edge: bool | None = None
    managed_by: str | None = None


class Identities:
    """All devices and modules of the hub, in SQL. Methods block."""

    def __init__(
        self, engine: Engine, random_bytes: Callable[[int], bytes], clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._random_bytes = random_bytes
        self._clock = clock

    def create(self, device_id: str, module_id: str | None = None, change: IdentityChange | None = None) -> Identity:
        """Make an identity with its twin, and the system modules of an edge device.

        Raises DeviceAlreadyExists, ModuleAlreadyExists, DeviceNotFound (a module needs its device) or Invalid.
        """
        with self._engine.begin() as db:
            return self.create_in(db, device_id, module_id, change or IdentityChange())

    def create_in(self, db: Connection, device_id: str, module_id: str | None, change: IdentityChange) -> Identity:
        """`create` as a part of the caller's transaction."""
        check_id("device", device_id)
        if module_id is not None:
            check_id("module", module_id)
            if find_in(db, device_id) is None:
                raise DeviceNotFound(device_id)
            if _count_modules(db, device_id) >= MAX_MODULES:
                raise Invalid(f"device {device_id!r} has {MAX_MODULES} modules; delete one first")
        if find_in(db, device_id, module_id) is not None:
            if module_id is None:
                raise DeviceAlreadyExists(device_id)
            raise ModuleAlreadyExists(device_id, module_id)
        identity = self._new(device_id, module_id, change)
        db.execute(insert(tables.identities).values(_row_of(identity)))
        db.execute(insert(tables.twins).values(_empty_twin(device_id, module_id)))
        if identity.is_edge:
            self._ensure_system_modules(db, device_id)
        return identity

    def update(
        self, device_id: str, module_id: str | None, change: IdentityChange, *, if_match: str | None = None
    ) -> Identity:
        """Change an identity. *if_match* None does not compare. Raises NotFound, PreconditionFailed or Invalid."""
        with self._engine.begin() as db:
            before = get_in(db, device_id, module_id)
            _compare(before, if_match)
            after = _changed(before, change, self._clock())
            db.execute(update(tables.identities).where(_is(device_id, module_id)).values(_row_of(after)))
            if after.is_edge:
                self._ensure_system_modules(db, device_id)
            return after

    def delete(self, device_id: str, module_id: str | None = None, *, if_match: str | None = None) -> None:
        """Delete an identity with its twin; a device with its modules. Messages stay. Raises NotFound or Conflict."""
        with self._engine.begin() as db:
            _compare(get_in(db, device_id, module_id), if_match)
            for table in (tables.identities, tables.twins, tables.sessions):
                rows = delete(table).where(table.c.device_id == device_id)
                db.execute(rows if module_id is None else rows.where(table.c.module_id == module_id))

    def find(self, device_id: str, module_id: str | None = None) -> Identity | None:
        """Return the identity, or None."""
        with self._engine.connect() as db:
            return find_in(db, device_id, module_id)

    def get(self, device_id: str, module_id: str | None = None) -> Identity:
        """Return the identity. Raises DeviceNotFound or ModuleNotFound."""
        with self._engine.connect() as db:
            return get_in(db, device_id, module_id)

    def devices(self, *, after: str = "", limit: int = 1000) -> list[Identity]:
        """Return devices in the order of their ids."""
        rows = select(tables.identities).where(_TABLE.module_id == "", _TABLE.device_id > after)
        with self._engine.connect() as db:
            return [_identity(row) for row in db.execute(rows.order_by(_TABLE.device_id).limit(limit))]

    def modules(self, device_id: str) -> list[Identity]:
        """Return the device's modules in the order of their ids. Raises DeviceNotFound."""
        rows = select(tables.identities).where(_TABLE.module_id != "", _TABLE.device_id == device_id)
        with self._engine.connect() as db:
            get_in(db, device_id)
            return [_identity(row) for row in db.execute(rows.order_by(_TABLE.module_id))]

    def count_devices(self) -> tuple[int, int]:
        """Return how many devices there are, and how many of them are enabled."""
        with self._engine.connect() as db:
            flags = db.execute(select(_TABLE.is_enabled).where(_TABLE.module_id == "")).scalars().all()
        return len(flags), sum(flags)

    def note_connection(self, device_id: str, module_id: str | None) -> None:
        """Remember that the identity has connected or gone just now. Nothing happens when it was deleted.

        An edge device itself never connects: its edge runtime's modules speak for it.
        """
        now = self._clock()
        values = {"connection_updated_at": now, "last_activity_at": now}
        noted = _is(device_id, module_id)
        if module_id in SYSTEM_MODULES:
            noted = or_(noted, _is(device_id, None))
        with self._engine.begin() as db:
            db.execute(update(tables.identities).where(noted).values(values))

    def _ensure_system_modules(self, db: Connection, device_id: str) -> None:
        for module_id in SYSTEM_MODULES:
            if find_in(db, device_id, module_id) is None:
                self.create_in(db, device_id, module_id, IdentityChange(managed_by="IotEdge"))

    def _new(self, device_id: str, module_id: str | None, change: IdentityChange) -> Identity:
        now = self._clock()
        blank = Identity(
            device_id=device_id,
            module_id=module_id,
            generation_id=str(int.from_bytes(self._random_bytes(7), "big")),
            revision=0,
            is_enabled=True,
            status_reason=None,
            primary_key=self.new_key(),
            secondary_key=self.new_key(),
            is_edge=False,
            managed_by="",
            created_at=now,
            status_updated_at=now,
            connection_updated_at=None,
            last_activity_at=None,
        )
        return _changed(blank, change, now)

    def new_key(self) -> str:
        """Return a fresh key, base64."""
        return base64.b64encode(self._random_bytes(_KEY_BYTES)).decode()


def find_in(db: Connection, device_id: str, module_id: str | None = None) -> Identity | None:
    """Return the identity within a transaction, or None."""
    row = db.execute(select(tables.identities).where(_is(device_id, module_id))).first()
    return None if row is None else _identity(row)


def get_in(db: Connection, device_id: str, module_id: str | None = None) -> Identity:
    """Return the identity within a transaction. Raises DeviceNotFound or ModuleNotFound."""
    found = find_in(db, device_id, module_id)
    if found is not None:
        return found
    if module_id is None or find_in(db, device_id) is None:
        raise DeviceNotFound(device_id)
    raise ModuleNotFound(device_id, module_id)


def _count_modules(db: Connection, device_id: str) -> int:
    query = select(func.count()).where(_TABLE.device_id == device_id, _TABLE.module_id != "")
    return int(db.execute(query).scalar_one())


def _is(device_id: str, module_id: str | None) -> ColumnElement[bool]:
    return and_(_TABLE.device_id == device_id, _TABLE.module_id == (module_id or ""))


def _changed(before: Identity, change: IdentityChange, now: float) -> Identity:
    for key in (change.primary_key, change.secondary_key):
        if key is not None:
            _check_key(key)
    if change.is_edge and before.module_id is not None:
        raise Invalid("a module cannot be an edge device")
    if change.is_edge is False and before.is_edge:
        raise Invalid(f"edge device {before.device_id!r} cannot become a plain device; delete it and make it again")
    is_enabled = before.is_enabled if change.is_enabled is None else change.is_enabled
    return replace(
        before,
        revision=before.revision + 1,
        is_enabled=is_enabled,
        status_reason=change.status_reason if change.status_reason is not None else before.status_reason,
        primary_key=change.primary_key or before.primary_key,
        secondary_key=change.secondary_key or before.secondary_key,
        is_edge=before.is_edge if change.is_edge is None else change.is_edge,
        managed_by=before.managed_by if change.managed_by is None else change.managed_by,
        status_updated_at=before.status_updated_at if is_enabled == before.is_enabled else now,
    )


def _check_key(key: str) -> None:
    try:
        size = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError) as error:
        raise Invalid("a symmetric key is not base64") from error
    if not 16 <= size <= 64:
        raise Invalid(f"a symmetric key has 16 to 64 bytes, not {size}")


def _compare(identity: Identity, if_match: str | None) -> None:
    if if_match not in (None, "*", identity.etag):
        raise PreconditionFailed(f"{identity.path!r}")


def _row_of(identity: Identity) -> dict[str, object]:
    row = {name: getattr(identity, name) for name in Identity.__slots__}
    return row | {"module_id": identity.module_id or ""}


def _identity(row: Row[Any]) -> Identity:
    values = dict(row._mapping)
    return Identity(**values | {"module_id": values["module_id"] or None})


def _empty_twin(device_id: str, module_id: str | None) -> dict[str, object]:
    section: dict[str, object] = {}
    for name in ("desired", "reported"):
        section |= {name: {}, f"{name}_version": 1, f"{name}_metadata": {}}
    return {"device_id": device_id, "module_id": module_id or "", "version": 1, "tags": {}} | section
