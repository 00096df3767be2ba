"""Collections of the registry's garbage: one after the other, asked for by people or by the clock.

They run in the server's own task, so that nobody's request need last as long. What was found is kept in
memory, for the last few; a server that stops cuts a collection off, which harms nothing.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sanderling.errors import NotFound
from sanderling.registry import CollectionRuns, Report
from sanderling.server.tls import utc_now

log = logging.getLogger(__name__)

KEPT = 4


class Collect(Protocol):
    """Runs one collection."""

    def __call__(self, *, dry_run: bool) -> Awaitable[Report]: ...


class CollectionNotFound(NotFound):
    """No such collection."""

    def __init__(self, id_: str) -> None:
        super().__init__(f"there is no collection {id_[:64]!r}, or it was long ago; begin another")


@dataclass(slots=True)
class Collection:
    """One collection. *report* is None until it has ended, and when it failed: *fault* says why."""

    id: str
    is_dry_run: bool
    started_at: datetime
    report: Report | None = None
    fault: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def state(self) -> str:
        """running, done or failed."""
        return "running" if not self.ended.is_set() else "failed" if self.fault else "done"


class Collections:
    """The collections of one server; used by its event loop only."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._wanted: asyncio.Queue[Collection] = asyncio.Queue(1)
        self._kept: OrderedDict[str, Collection] = OrderedDict()

    def begin(self, *, dry_run: bool) -> Collection:
        """Begin a collection; raise `CollectionRuns` while another runs."""
        if any(not one.ended.is_set() for one in self._kept.values()):
            raise CollectionRuns
        made = Collection(secrets.token_hex(8), dry_run, utc_now())
        self._wanted.put_nowait(made)
        self._kept[made.id] = made
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made

    def get(self, id_: str) -> Collection:
        """Return a collection of late; raise `CollectionNotFound`."""
        if id_ not in self._kept:
            raise CollectionNotFound(id_)
        return self._kept[id_]

    async def run(self, stopping: asyncio.Event) -> None:
        """Run collections as they are wanted, until the server stops."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._work())
            await stopping.wait()
            work.cancel()

    async def _work(self) -> None:
        while True:
            one = await self._wanted.get()
            try:
                one.report = await self._collect(dry_run=one.is_dry_run)
            except Exception as e:  # one failure must not end the server
                log.exception("the registry's garbage could not be collected")
                one.fault = getattr(e, "message", "it failed; the server's log says why")
            finally:
                one.ended.set()
