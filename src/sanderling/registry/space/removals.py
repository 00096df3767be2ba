"""Removing bytes from the store beside uploads of the same bytes. SQL, synchronous.

What must hold: *a row of `registry_blobs` names bytes that are in the store*, always, with
several servers over one database and one store, and whoever is killed at whatever line.
Manifests are accepted by those rows, so no accepted manifest ever lacks a blob.

The collector removes the bytes of digest D in three steps:

    C1  one transaction: no row links D -> claim D (a row of `removals`, not ended)
    C2  the store: remove D if its last commit is older than the grace time
    C3  one transaction: the claim ended, if bytes went; else it is deleted

An upload of D links it in two:

    U1  the store: commit D; its time is now
    U2  one transaction: look for a removal of D; none -> the row that links D

C1 and U2 exclude each other (SQLite has one writer; PostgreSQL takes a lock for the digest,
`serialise`). So each order of the steps is one of these:

    U2 before C1        C1 sees the link and does not claim.
    C1 before U2, and D is claimed still: U2 waits until the claim has ended, then as below.
    C3 before U2, bytes went (the claim is kept, ended, for the grace time):
        U1 after C2     the bytes are there again: U2 finds them in the store, and links.
        U1 before C2    the store saw the time of U1 and removed nothing; unless its look and its
                        removal are two steps with U1 between them (S3): then U2 finds no bytes, and
                        refuses: 503, the client sends the blob again. Never a link without bytes.
    C3 before U2, nothing went: the bytes of U1 are there. No trace is needed.
    U2 comes later than half the grace time after U1 (a machine that slept): refused, sent again.

A mount links D in one transaction that also sees another link of D, so D is not claimed then. A
removal of links (`garbage`) deletes a row only when nothing refers to it in the same transaction.

Killed in C1 to C3: the claim stays. After `STALE_CLAIM_S` an upload takes it for ended, and the
next collection claims anew. The store bounds C2 to less than that: a timeout for S3; files look
and remove under one lock, so even a late removal sees the time of a newer commit. Clocks of
servers and store may differ by less than a quarter of the grace time.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, func, insert, select, text, update

from sanderling.oci import Digest
from sanderling.registry.space.tables import removals
from sanderling.registry.tables import blobs

GRACE_S = 24 * 3600.0
STALE_CLAIM_S = 120.0
MAX_DIGESTS = 500  # in one statement


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal of bytes that is going on, or was of late."""

    digest: Digest
    claimed_at: float
    ended_at: float | None

    def is_going_on(self, now: float) -> bool:
        """Whether the bytes may go at any moment."""
        return self.ended_at is None and self.claimed_at > now - STALE_CLAIM_S


def serialise(connection: Connection, digest: str) -> None:
    """Let no other transaction claim or link *digest* until this one ends. SQLite does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:digest))"), {"digest": digest})


def find_removal(connection: Connection, digest: str) -> Removal | None:
    """Return the removal of *digest*, within the transaction that wants to link it."""
    row = connection.execute(select(removals).where(removals.c.digest == digest)).one_or_none()
    return None if row is None else Removal(Digest(row.digest), row.claimed_at, row.ended_at)


def forget_removal(connection: Connection, digest: str) -> None:
    """The bytes are there again, and are linked in this transaction."""
    connection.execute(delete(removals).where(removals.c.digest == digest))


def linked(connection: Connection, digests: Collection[str]) -> set[str]:
    """Return those of *digests* (at most `MAX_DIGESTS`) that some repository links."""
    query = select(blobs.c.digest).where(blobs.c.digest.in_(digests)).distinct()
    return set(connection.execute(query).scalars())


class Removals:
    """The claims of the collector."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time, grace_s: float = GRACE_S) -> None:
        self._engine, self._clock, self._grace_s = engine, clock, grace_s

    def claim(self, digests: Iterable[Digest]) -> list[Digest]:
        """C1: claim those (at most `MAX_DIGESTS`) that nothing links and nobody else removes."""
        wanted = sorted(digests)
        now = self._clock()
        with self._engine.begin() as connection:
            for digest in wanted:
                serialise(connection, digest)
            found = select(removals).where(removals.c.digest.in_(wanted))
            others = {
                row.digest
                for row in connection.execute(found)
                if Removal(Digest(row.digest), row.claimed_at, row.ended_at).is_going_on(now)
            }
            others |= linked(connection, wanted)
            claimed = [digest for digest in wanted if digest not in others]
            if claimed:
                connection.execute(delete(removals).where(removals.c.digest.in_(claimed)))
                rows = [{"digest": str(digest), "claimed_at": now, "ended_at": None} for digest in claimed]
                connection.execute(insert(removals), rows)
        return claimed

    def end(self, removed: Collection[Digest], kept: Collection[Digest]) -> None:
        """C3: of what was claimed, *removed* is gone, and *kept* stayed in the store."""
        with self._engine.begin() as connection:
            if removed:
                statement = update(removals).where(removals.c.digest.in_(removed)).values(ended_at=self._clock())
                connection.execute(statement)
            if kept:
                connection.execute(delete(removals).where(removals.c.digest.in_(kept)))

    def forget_old(self) -> None:
        """Forget removals that no upload can have been beside: an upload links within half the grace time."""
        before = self._clock() - self._grace_s
        ended = func.coalesce(removals.c.ended_at, removals.c.claimed_at) < before
        with self._engine.begin() as connection:
            connection.execute(delete(removals).where(ended))
