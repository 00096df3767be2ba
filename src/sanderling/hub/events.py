"""The event stream: what devices sent, in the order in which it was stored.

Rules: a message is stored before anyone is told that it is; appends that come together share one transaction; a
delivery id is stored once for each device, and a repetition counts as stored; readers keep their own place (a
sequence number), and every number is given out once; what is older than the retention is deleted, delivery ids with it.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from sanderling.errors import Unavailable
from sanderling.hub import tables
from sanderling.iot import Message

log = logging.getLogger(__name__)

_TABLE = tables.events.c
_MAX_BATCH = 256
_MAX_PENDING = 5_000
_MAX_PENDING_BYTES = 128 * 1024 * 1024
_CLEAN_EVERY_S = 600.0
RETENTION_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A message with its place in the stream. *enqueued_at* is seconds since 1970."""

    sequence: int
    enqueued_at: float
    message: Message = field(repr=False)


class EventStream:
    """Append, read after a place, wait for more. One writer thread; safe to use from any thread or loop."""

    def __init__(
        self, engine: Engine, clock: Callable[[], float] = time.time, *, retention_s: float = RETENTION_S
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._retention_s = retention_s
        self._clean_at = 0.0
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub-events")
        self._pending: deque[tuple[Message, Future[None]]] = deque()
        self._pending_bytes = 0
        self._lock = threading.Lock()
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def append_soon(self, message: Message) -> "Future[None]":
        """Queue *message* for the next transaction; the future is done when it is stored.

        Raises Unavailable when too many messages wait; the future raises Unavailable when storing failed.
        """
        future: Future[None] = Future()
        with self._lock:
            if len(self._pending) >= _MAX_PENDING or self._pending_bytes >= _MAX_PENDING_BYTES:
                raise Unavailable(f"{len(self._pending)} messages wait to be stored; send again later")
            self._pending.append((message, future))
            self._pending_bytes += len(message.body)
        self._writer.submit(self._write_pending)
        return future

    async def append(self, message: Message) -> None:
        """Store *message*. Raises Unavailable when that is not possible now."""
        await asyncio.wrap_future(self.append_soon(message))

    def read(
        self, after: int, *, limit: int = 100, device_id: str | None = None, module_id: str | None = None
    ) -> list[StoredEvent]:
        """Return up to *limit* messages behind the place *after* (0 is the beginning), oldest first. Blocks."""
        query = select(tables.events).where(_TABLE.sequence > after)
        if device_id is not None:
            query = query.where(_TABLE.device_id == device_id)
        if module_id is not None:
            query = query.where(_TABLE.module_id == module_id)
        with self._engine.connect() as db:
            rows = db.execute(query.order_by(_TABLE.sequence).limit(limit)).all()
        return [
            StoredEvent(
                row.sequence,
                row.enqueued_at,
                Message(row.body, row.device_id, row.module_id, row.output, row.properties, row.system_properties),
            )
            for row in rows
        ]

    def last_sequence(self) -> int:
        """Return the place of the newest message, 0 when there is none. Blocks."""
        with self._engine.connect() as db:
            return db.execute(select(func.max(_TABLE.sequence))).scalar() or 0

    async def wait(
        self,
        after: int,
        *,
        timeout_s: float,
        limit: int = 100,
        device_id: str | None = None,
        module_id: str | None = None,
    ) -> list[StoredEvent]:
        """`read`, but wait up to *timeout_s* for the first message that fits."""
        loop, stored = asyncio.get_running_loop(), asyncio.Event()
        waiter, deadline = (loop, stored), loop.time() + timeout_s
        with self._lock:
            self._waiters.add(waiter)
        try:
            while True:
                stored.clear()
                found = await asyncio.to_thread(self.read, after, limit=limit, device_id=device_id, module_id=module_id)
                if found or loop.time() >= deadline:
                    return found
                try:
                    async with asyncio.timeout_at(deadline):
                        await stored.wait()
                except TimeoutError:
                    continue  # one last look
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def close(self) -> None:
        """Store what waits, then stop. Blocks."""
        self._writer.shutdown(wait=True)

    def _write_pending(self) -> None:
        with self._lock:
            taken = [self._pending.popleft() for _ in range(min(_MAX_BATCH, len(self._pending)))]
            self._pending_bytes -= sum(len(message.body) for message, _ in taken)
        batch = [(message, future) for message, future in taken if future.set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            self._store([message for message, _ in batch])
        except Exception as error:  # whatever it is, nobody may wait for ever
            if not isinstance(error, SQLAlchemyError):
                log.exception("messages could not be stored")
            for _, future in batch:
                future.set_exception(Unavailable(f"the message could not be stored: {type(error).__name__}"))
            return
        for _, future in batch:
            future.set_result(None)
        with self._lock:
            waiters = list(self._waiters)
        for loop, stored in waiters:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(stored.set)

    def _store(self, messages: Sequence[Message]) -> None:
        now = self._clock()
        with self._engine.begin() as db:
            known = self._known_deliveries(db, messages)
            rows = []
            for message in messages:
                delivery = (message.device_id, message.delivery_id)
                if message.delivery_id is not None:
                    if delivery in known:
                        continue
                    known.add(delivery)
                rows.append(_row_of(message, now))
            if rows:
                db.execute(insert(tables.events), rows)
            if now >= self._clean_at:
                db.execute(delete(tables.events).where(_TABLE.enqueued_at < now - self._retention_s))
                self._clean_at = now + _CLEAN_EVERY_S

    def _known_deliveries(self, db: Connection, messages: Sequence[Message]) -> set[tuple[str, str | None]]:
        by_device: dict[str, list[str]] = {}
        for message in messages:
            if message.delivery_id is not None:
                by_device.setdefault(message.device_id, []).append(message.delivery_id)
        known: set[tuple[str, str | None]] = set()
        for device_id, delivery_ids in by_device.items():
            where = (_TABLE.device_id == device_id, _TABLE.delivery_id.in_(delivery_ids))
            known |= {(device_id, found) for found in db.execute(select(_TABLE.delivery_id).where(*where)).scalars()}
        return known


def _row_of(message: Message, now: float) -> dict[str, object]:
    return {
        "device_id": message.device_id,
        "module_id": message.module_id,
        "output": message.output,
        "enqueued_at": now,
        "properties": dict(message.properties),
        "system_properties": dict(message.system_properties),
        "body": message.body,
        "delivery_id": message.delivery_id,
    }
