"""Space as the server uses it: rules, quotas, and the collection of garbage.

A collection runs beside pushes and pulls, in this order; each step is whole by itself, so that a run
that was killed leaves nothing to be repaired, and the next one goes on:

    uploads that nobody went on with
    tags and manifests that the retention rules take away
    links to blobs that no manifest names, older than the grace time
    bytes that nothing links, older than the grace time
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import TypeVar

from sqlalchemy import Engine, func, select

from sanderling.blobs import BlobStore
from sanderling.errors import Conflict, SanderlingError
from sanderling.registry.space.garbage import DeadBytes, DeadLink, DeadLinks, gone_blob
from sanderling.registry.space.quota import Quotas
from sanderling.registry.space.removals import GRACE_S, Removals
from sanderling.registry.space.report import Gone, Report
from sanderling.registry.space.retention import Retention, gone_manifest, gone_tag
from sanderling.registry.space.rules import InUse, Rule
from sanderling.registry.tables import metadata, uploads

# For so long what devices use is taken as read: a fleet of thousands is not read again for each repository.
IN_USE_S = 2.0
_T = TypeVar("_T")

log = logging.getLogger(__name__)


class CollectionRuns(Conflict):
    """A collection of this server has not ended."""

    def __init__(self) -> None:
        super().__init__("a garbage collection is running already; wait for its end")


class Space:
    """What repositories hold, may hold and let go of. *in_use* blocks; see `Registry`."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobStore,
        *,
        clock: Callable[[], float] = time.time,
        in_use: Callable[[], Iterable[str]] = tuple,
        grace_s: float = GRACE_S,
    ) -> None:
        metadata.create_all(engine)
        self._engine, self._blobs, self._clock, self._in_use = engine, blobs, clock, in_use
        self.grace_s = grace_s
        self.quotas = Quotas(engine)
        self.retention = Retention(engine, clock)
        self._links = DeadLinks(engine)
        self._removals = Removals(engine, clock, grace_s)
        self._bytes = DeadBytes(self._links, blobs, self._removals)
        self._running = asyncio.Lock()

    async def collect(self, *, dry_run: bool = False) -> Report:
        """Remove what rules and garbage collection take away, or with *dry_run* only say what.

        Raises `CollectionRuns`. Devices' images that cannot be read, and a store
        that fails, leave their part out: `Report.problem` says so.
        """
        if self._running.locked():
            raise CollectionRuns
        async with self._running:
            began = time.monotonic()
            run = _Run(self, dry_run)
            problem = ""
            try:
                async for gone in run.steps():
                    run.gone.append(gone)
            except SanderlingError as e:
                problem = e.message
            finally:
                run.is_over = True
            report = Report(
                dry_run, tuple(run.gone), run.stale_uploads, time.monotonic() - began, problem or run.problem
            )
        if report.gone and not dry_run:
            log.info("registry: %d things went, %d bytes are free", len(report.gone), report.freed_bytes)
        return report


class _Run:
    """One collection."""

    def __init__(self, space: Space, dry_run: bool) -> None:
        self._space, self._dry_run = space, dry_run
        self._before = space._clock() - space.grace_s
        self.gone: list[Gone] = []
        self.stale_uploads = 0
        self.problem = ""
        self.is_over = False  # a run that is cut off leaves a thread at work, which ends soon then
        self._in_use: tuple[float, InUse] | None = None

    async def steps(self) -> AsyncIterator[Gone]:
        """Do, or foresee, the steps; yield what goes."""
        space = self._space
        self.stale_uploads = await asyncio.to_thread(self._count_stale_uploads)
        going: Counter[str] = Counter()
        rules = await asyncio.to_thread(space.retention.rules)
        for repository_id, name in await asyncio.to_thread(space._links.repositories):
            gone, links = await asyncio.to_thread(self._in_repository, repository_id, name, rules)
            going.update(link.digest for link in links if self._dry_run)
            for one in (*gone, *(link.gone for link in links)):
                yield one
        async for part in space._bytes.find(self._before, going):
            if self._dry_run:
                for blob in part:
                    yield gone_blob(blob.digest, blob.size)
            else:
                async for one in space._bytes.remove(part, self._before):
                    yield one
        if not self._dry_run:
            await asyncio.to_thread(space._removals.forget_old)

    def _in_repository(self, repository_id: int, name: str, rules: Sequence[Rule]) -> tuple[list[Gone], list[DeadLink]]:
        retention, links = self._space.retention, self._space._links
        gone: list[Gone] = []
        going: list[str] = []
        matching = [rule for rule in rules if rule.matches(name)]
        if matching and (in_use := self._read_in_use()) is not None:
            plan = retention.plan(repository_id, name, matching, in_use, self._space.grace_s)
            if self._dry_run:
                gone = [gone_tag(name, *one) for one in plan.tags] + [
                    gone_manifest(name, *one) for one in plan.manifests
                ]
                going = [manifest.digest for manifest, _ in plan.manifests]
            else:
                gone = list(self._while_wanted(retention.apply(repository_id, name, plan)))
        dead = links.find(repository_id, name, self._before, going)
        return gone, dead if self._dry_run else list(self._while_wanted(links.delete(dead, self._before)))

    def _while_wanted(self, items: Iterable[_T]) -> Iterator[_T]:
        return takewhile(lambda _: not self.is_over, items)

    def _read_in_use(self) -> InUse | None:
        """Return what devices use, now; None, and a problem, when that is not known: then nothing is taken away."""
        now = time.monotonic()
        if self._in_use is not None and now - self._in_use[0] < IN_USE_S:
            return self._in_use[1]
        try:
            self._in_use = now, InUse.parse(self._space._in_use())
            return self._in_use[1]
        except SanderlingError as e:
            self.problem = f"retention rules were left out, as it is not known what devices run: {e.message}"
            return None

    def _count_stale_uploads(self) -> int:
        query = select(func.count()).select_from(uploads).where(uploads.c.started_at < self._before)
        with self._space._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())
