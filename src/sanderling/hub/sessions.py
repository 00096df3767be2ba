"""What persistent MQTT sessions have subscribed to, in SQL.

The clients never subscribe again after a reconnect, so this must survive a restart of the hub. A subscription is
stored before it is granted.
"""

from collections.abc import Mapping

from sqlalchemy import Engine, delete, insert, select, update

from sanderling.hub import tables

_TABLE = tables.sessions.c


class Sessions:
    """Stored sessions by identity. Methods block."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, device_id: str, module_id: str | None) -> dict[str, int] | None:
        """Return filters with their QoS, or None when there is no session."""
        query = select(_TABLE.subscriptions).where(_TABLE.device_id == device_id, _TABLE.module_id == (module_id or ""))
        with self._engine.connect() as db:
            row = db.execute(query).first()
        return None if row is None else dict(row.subscriptions)

    def save(self, device_id: str, module_id: str | None, subscriptions: Mapping[str, int]) -> None:
        """Store the session."""
        key = {"device_id": device_id, "module_id": module_id or ""}
        where = (_TABLE.device_id == key["device_id"], _TABLE.module_id == key["module_id"])
        with self._engine.begin() as db:
            changed = db.execute(update(tables.sessions).where(*where).values(subscriptions=dict(subscriptions)))
            if not changed.rowcount:
                db.execute(insert(tables.sessions).values(key | {"subscriptions": dict(subscriptions)}))

    def forget(self, device_id: str, module_id: str | None) -> None:
        """Delete the session, if there is one."""
        where = (_TABLE.device_id == device_id, _TABLE.module_id == (module_id or ""))
        with self._engine.begin() as db:
            db.execute(delete(tables.sessions).where(*where))
