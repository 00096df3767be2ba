"""Messages on their way, and what clients expect to find again: one SQLite file.

Rules:
- `append` returns when the messages are on disk (WAL, synchronous=FULL), not before;
- one thread writes; what comes meanwhile goes into the next transaction together;
- a message has a row for each sink and is deleted when that sink has it;
- the sum of bodies is bounded: what would go beyond is refused (`StoreFull`), so
  that the sender keeps it; nothing is dropped but what outlives its time to live.
"""

import asyncio
import json
import logging
import queue
import sqlite3
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sanderling.errors import SanderlingError, Unavailable
from sanderling.iot import Message

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

UPSTREAM = "$upstream"
_ROW_BYTES = 512  # what a row costs besides its body, roughly
_MAX_BATCH = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint TEXT NOT NULL,
    input TEXT,
    priority INTEGER NOT NULL,
    expires_at REAL,
    size_bytes INTEGER NOT NULL,
    delivery_id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_order ON messages (endpoint, priority, id);
CREATE TABLE IF NOT EXISTS subscriptions (
    module TEXT NOT NULL, filter TEXT NOT NULL, qos INTEGER NOT NULL, PRIMARY KEY (module, filter)
);
CREATE TABLE IF NOT EXISTS twins (module TEXT PRIMARY KEY, document TEXT NOT NULL);
"""


class StoreFull(Unavailable):
    """There is no room for the message now; its sender keeps it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message for one sink. *endpoint* is a module's name or `UPSTREAM`."""

    endpoint: str
    input: str | None
    priority: int
    expires_at: float | None
    message: Message

    @property
    def size_bytes(self) -> int:
        """What it counts against the limit."""
        return len(self.message.body) + _ROW_BYTES


@dataclass(frozen=True, slots=True)
class Stored:
    """A message that waits, with its row."""

    id: int
    input: str | None
    message: Message


class Store:
    """The queue of one edge hub. Make it with `Store(path)`, end it with `close`."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; raise `Unavailable` when that fails."""
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]] | None]
        self._work = queue.SimpleQueue()
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            row = self._db.execute("SELECT coalesce(sum(size_bytes), 0) FROM messages").fetchone()
        except (sqlite3.Error, OSError) as e:
            raise Unavailable(f"the message store {path} cannot be opened: {e}") from e
        self.size_bytes: int = row[0]
        self._thread = threading.Thread(target=self._run, name="message store", daemon=True)
        self._thread.start()

    async def append(self, messages: Sequence[Outgoing]) -> None:
        """Keep *messages*, all or none; they are on disk when this returns. Raises `Unavailable`."""
        rows = [
            (m.endpoint, m.input, m.priority, m.expires_at, m.size_bytes, uuid.uuid4().hex, *_pack(m.message))
            for m in messages
        ]
        added = sum(m.size_bytes for m in messages)

        def insert() -> None:
            self._db.executemany(
                "INSERT INTO messages (endpoint, input, priority, expires_at, size_bytes, delivery_id, source, headers,"
                " body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

        self.size_bytes += added
        try:
            await self._do(insert)
        except Unavailable:
            self.size_bytes -= added
            raise

    async def take(self, endpoint: str, under_way: Sequence[int], limit: int) -> list[Stored]:
        """Return the next messages for *endpoint*, best priority first, then oldest, without those *under_way*."""
        marks = ",".join("?" * len(under_way))

        def select() -> list[Any]:
            return self._db.execute(
                "SELECT id, input, delivery_id, source, headers, body FROM messages"
                f" WHERE endpoint = ? AND id NOT IN ({marks}) ORDER BY priority, id LIMIT ?",
                (endpoint, *under_way, limit),
            ).fetchall()

        return [Stored(row[0], row[1], _unpack(*row[2:])) for row in await self._do(select)]

    async def delete(self, ids: Sequence[int]) -> None:
        """Forget messages that have arrived."""

        def delete() -> int:
            freed = 0
            for row_id in ids:
                found = self._db.execute("DELETE FROM messages WHERE id = ? RETURNING size_bytes", (row_id,)).fetchone()
                freed += found[0] if found else 0
            return freed

        self.size_bytes -= await self._do(delete)

    async def expire(self, now: float) -> int:
        """Delete what has outlived its time; return how many."""

        def delete() -> list[Any]:
            return self._db.execute("DELETE FROM messages WHERE expires_at < ? RETURNING size_bytes", (now,)).fetchall()

        gone = await self._do(delete)
        self.size_bytes -= sum(row[0] for row in gone)
        return len(gone)

    async def count(self, endpoint: str) -> int:
        """Return how many messages wait for *endpoint*."""

        def select() -> int:
            found = self._db.execute("SELECT count(*) FROM messages WHERE endpoint = ?", (endpoint,)).fetchone()
            return int(found[0])

        return await self._do(select)

    async def subscriptions(self, module: str) -> dict[str, int]:
        """Return the filters that *module* has subscribed to, with their QoS."""

        def select() -> list[Any]:
            return self._db.execute("SELECT filter, qos FROM subscriptions WHERE module = ?", (module,)).fetchall()

        return {row[0]: row[1] for row in await self._do(select)}

    async def set_subscriptions(self, module: str, filters: dict[str, int]) -> None:
        """Replace the subscriptions of *module*."""

        def replace() -> None:
            self._db.execute("DELETE FROM subscriptions WHERE module = ?", (module,))
            rows = [(module, name, qos) for name, qos in filters.items()]
            self._db.executemany("INSERT INTO subscriptions (module, filter, qos) VALUES (?, ?, ?)", rows)

        await self._do(replace)

    async def find_twin(self, module: str) -> dict[str, Any] | None:
        """Return what was kept of a module's twin."""

        def select() -> Any:
            return self._db.execute("SELECT document FROM twins WHERE module = ?", (module,)).fetchone()

        row = await self._do(select)
        return None if row is None else json.loads(row[0])

    async def set_twin(self, module: str, document: dict[str, Any]) -> None:
        """Keep *document* as the module's twin."""

        def upsert() -> None:
            self._db.execute(
                "INSERT INTO twins (module, document) VALUES (?, ?)"
                " ON CONFLICT (module) DO UPDATE SET document = excluded.document",
                (module, json.dumps(document)),
            )

        await self._do(upsert)

    async def close(self) -> None:
        """Finish what was given and close the file."""
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _do(self, operation: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._work.put((operation, lambda result, error: _call(loop, settle, result, error)))
        return await future

    def _run(self) -> None:
        while (first := self._work.get()) is not None:
            batch = [first]
            is_last = False
            while len(batch) < _MAX_BATCH and not self._work.empty():
                following = self._work.get()
                if following is None:
                    is_last = True
                    break
                batch.append(following)
            self._commit(batch)
            if is_last:
                break
        self._db.close()

    def _commit(self, batch: list[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]]) -> None:
        """Run *batch* in one transaction; all succeed or all fail."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            results = [operation() for operation, _ in batch]
            self._db.execute("COMMIT")
        except sqlite3.Error as e:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            error: SanderlingError = Unavailable(f"the message store cannot write: {e}")
            for _, answer in batch:
                answer(None, error)
        else:
            for (_, answer), result in zip(batch, results, strict=True):
                answer(result, None)


def _call(
    loop: asyncio.AbstractEventLoop, settle: Callable[..., None], result: Any, error: BaseException | None
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle, result, error)


def _pack(message: Message) -> tuple[str, str, bytes]:
    headers = {
        "device": message.device_id,
        "output": message.output,
        "properties": dict(message.properties),
        "system": dict(message.system_properties),
    }
    return message.module_id or "", json.dumps(headers), message.body


def _unpack(delivery_id: str, source: str, headers: str, body: bytes) -> Message:
    fields = json.loads(headers)
    return Message(
        body=body,
        device_id=fields["device"],
        module_id=source or None,
        output=fields["output"],
        properties=fields["properties"],
        system_properties=fields["system"],
        delivery_id=delivery_id,
    )
