"""Garbage: links that nothing refers to, and bytes that nothing links. Links are SQL, synchronous.

A link is garbage when no manifest of its repository names the blob and nobody was told of it within
the grace time. It is deleted in a transaction that looks again: SQLite has one writer, and PostgreSQL
locks the repository's row here as for every change to it (`Content`, `Retention`).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Exists, delete, exists, select

from sanderling.blobs import BlobStore, StoredBlob
from sanderling.errors import Unavailable
from sanderling.oci import Digest
from sanderling.registry.space.removals import MAX_DIGESTS, STALE_CLAIM_S, Removals
from sanderling.registry.space.report import Gone, Kind
from sanderling.registry.tables import blobs, references, repositories

_CLAIMED_AT_ONCE = 100
_LINK_WHY = "no manifest names it"
_BLOB_WHY = "no repository has it"


@dataclass(frozen=True, slots=True)
class DeadLink:
    """A link that is garbage."""

    repository_id: int
    repository: str
    digest: str

    @property
    def gone(self) -> Gone:
        """The line of a report."""
        return Gone(Kind.LINK, self.repository, self.digest, _LINK_WHY)


class DeadLinks:
    """Finds and deletes links that are garbage."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def repositories(self) -> list[tuple[int, str]]:
        """Return (id, name) of all repositories."""
        query = select(repositories.c.id, repositories.c.name).order_by(repositories.c.name)
        with self._engine.connect() as connection:
            return [(row.id, row.name) for row in connection.execute(query)]

    def find(self, repository_id: int, name: str, before: float, going: Collection[str] = ()) -> list[DeadLink]:
        """Return the links from before *before* that nothing but the manifests *going* refers to."""
        old = (blobs.c.repository_id == repository_id) & (blobs.c.linked_at < before)
        query = select(blobs.c.digest).where(old).order_by(blobs.c.digest)
        if not going:
            query = query.where(~_is_named())
        with self._engine.connect() as connection:
            found = list(connection.execute(query).scalars())
            named = _named(connection, repository_id, frozenset(going)) if going else ()
        return [DeadLink(repository_id, name, digest) for digest in found if digest not in named]

    def delete(self, links: Sequence[DeadLink], before: float) -> Iterator[DeadLink]:
        """Delete those of *links*, all of one repository, that are garbage still; yield them."""
        for start in range(0, len(links), MAX_DIGESTS):
            some = {link.digest: link for link in links[start : start + MAX_DIGESTS]}
            repository_id = links[start].repository_id
            with self._engine.begin() as connection:
                locked = select(repositories.c.id).where(repositories.c.id == repository_id).with_for_update()
                connection.execute(locked)
                statement = (
                    delete(blobs)
                    .where(
                        blobs.c.repository_id == repository_id,
                        blobs.c.digest.in_(list(some)),
                        blobs.c.linked_at < before,
                        ~_is_named(),
                    )
                    .returning(blobs.c.digest)
                )
                gone = sorted(connection.execute(statement).scalars())
            yield from (some[digest] for digest in gone)

    def linked(self, digests: Collection[str], going: Counter[str]) -> set[str]:
        """Return those of *digests* that a repository links, *going* links left out."""
        query = select(blobs.c.digest).where(blobs.c.digest.in_(digests))
        with self._engine.connect() as connection:
            found = Counter(connection.execute(query).scalars())
        return {digest for digest, count in found.items() if count > going[digest]}


class DeadBytes:
    """Finds and removes bytes in the store that are garbage. See `removals` for why that is safe."""

    def __init__(self, links: DeadLinks, blobs: BlobStore, removals: Removals) -> None:
        self._links, self._blobs, self._removals = links, blobs, removals

    async def find(self, before: float, going: Counter[str]) -> AsyncIterator[list[StoredBlob]]:
        """Yield, in parts, what was committed before *before* and is linked by nothing but *going* links."""
        part: list[StoredBlob] = []
        async for blob in self._blobs.stored():
            if blob.modified_at < before:
                part.append(blob)
            if len(part) >= MAX_DIGESTS:
                yield await self._unlinked(part, going)
                part = []
        if part:
            yield await self._unlinked(part, going)

    async def remove(self, found: Sequence[StoredBlob], before: float) -> AsyncIterator[Gone]:
        """Remove those of *found* that are garbage still; yield them. Raises `Unavailable`."""
        sizes = {blob.digest: blob.size for blob in found}
        digests = list(sizes)
        for start in range(0, len(digests), _CLAIMED_AT_ONCE):
            claimed = await asyncio.to_thread(self._removals.claim, digests[start : start + _CLAIMED_AT_ONCE])
            removed: list[Digest] = []
            kept: list[Digest] = []
            try:
                async with asyncio.timeout(STALE_CLAIM_S / 2):
                    for digest in claimed:
                        (removed if await self._blobs.remove_if_older(digest, before) else kept).append(digest)
            except TimeoutError:
                raise Unavailable("the blob store is too slow to remove blobs; the next collection goes on") from None
            finally:
                # What was not come to keeps its claim, which ages: whether its bytes went is not known.
                await asyncio.to_thread(self._removals.end, removed, kept)
            for digest in removed:
                yield gone_blob(digest, sizes[digest])

    async def _unlinked(self, part: list[StoredBlob], going: Counter[str]) -> list[StoredBlob]:
        linked = await asyncio.to_thread(self._links.linked, [str(blob.digest) for blob in part], going)
        return [blob for blob in part if blob.digest not in linked]


def gone_blob(digest: str, size_bytes: int) -> Gone:
    """Return the line of a report."""
    return Gone(Kind.BLOB, "", digest, _BLOB_WHY, size_bytes)


def _is_named() -> Exists:
    return exists().where(
        references.c.repository_id == blobs.c.repository_id,
        references.c.digest == blobs.c.digest,
    )


def _named(connection: Connection, repository_id: int, going: frozenset[str]) -> set[str]:
    query = select(references.c.manifest_digest, references.c.digest).where(references.c.repository_id == repository_id)
    return {row.digest for row in connection.execute(query) if row.manifest_digest not in going}
