"""Retention rules in SQL, and what they take away. Synchronous, in small transactions.

What a plan says was true when the repository was read. Each deletion looks again, in its own
transaction, whether it is true still: a tag that was pushed again stays, and a manifest stays that
has a tag, a parent or, when it goes with its subject, a subject. What is to go is written down first,
so that a run which is killed between an index and what it names is taken up by the next.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, Select, case, delete, func, insert, select

from sanderling.registry.space.removals import MAX_DIGESTS
from sanderling.registry.space.report import Gone, Kind
from sanderling.registry.space.rules import InUse, ManifestFacts, Plan, Rule, Snapshot, TagFacts, plan, rule_row
from sanderling.registry.space.tables import expiring, rules, touches
from sanderling.registry.tables import manifests, put_row, references, repositories, tags

_IN_ONE_TRANSACTION = 200
_T = TypeVar("_T")


class Retention:
    """The rules, and their application."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def rules(self) -> list[Rule]:
        """Return all rules, by pattern."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(rules).order_by(rules.c.pattern)).all()
        return [
            Rule(row.pattern, row.keep_last, row.keep_days, tuple(json.loads(row.keep_tags)), row.untagged_days)
            for row in rows
        ]

    def set_rule(self, rule: Rule) -> None:
        """Keep *rule*, in place of another of its pattern."""
        with self._engine.begin() as connection:
            put_row(connection, rules, rule_row(rule), replace=True)

    def clear_rule(self, pattern: str) -> bool:
        """Delete the rule of *pattern*; say whether there was one."""
        with self._engine.begin() as connection:
            return bool(connection.execute(delete(rules).where(rules.c.pattern == pattern)).rowcount)

    def plan(self, repository_id: int, name: str, applied: Sequence[Rule], in_use: InUse, grace_s: float) -> Plan:
        """Return what *applied* take away from a repository now."""
        with self._engine.connect() as connection:
            snapshot = _snapshot(connection, repository_id, name)
            used = _naming(connection, repository_id, in_use.digests)
        return plan(snapshot, applied, in_use, self._clock(), grace_s, used)

    def apply(self, repository_id: int, name: str, found: Plan) -> Iterator[Gone]:
        """Delete what *found* says, where it is true still; yield what went."""
        for these in _in_parts(found.manifests):
            with self._changing(repository_id) as connection:
                _expire(connection, repository_id, [manifest.digest for manifest, _ in these])
        for some in _in_parts(found.tags):
            with self._changing(repository_id) as connection:
                gone_tags = _delete_tags(connection, repository_id, [tag for tag, _ in some])
            yield from (gone_tag(name, *one) for one in some if one[0].name in gone_tags)
        for these in _in_parts(found.manifests):
            with self._changing(repository_id) as connection:
                gone = _delete_manifests(connection, repository_id, [manifest for manifest, _ in these])
            yield from (gone_manifest(name, *one) for one in these if one[0].digest in gone)
        with self._changing(repository_id) as connection:  # what is left of them is kept
            connection.execute(delete(expiring).where(expiring.c.repository_id == repository_id))

    @contextmanager
    def _changing(self, repository_id: int) -> Iterator[Connection]:
        """Begin a transaction that changes one repository: others wait, where the database locks rows."""
        with self._engine.begin() as connection:
            connection.execute(select(repositories.c.id).where(repositories.c.id == repository_id).with_for_update())
            yield connection


def gone_tag(repository: str, tag: TagFacts, why: str) -> Gone:
    """Return the line of a report."""
    return Gone(Kind.TAG, repository, tag.name, why)


def gone_manifest(repository: str, manifest: ManifestFacts, why: str) -> Gone:
    """Return the line of a report."""
    return Gone(Kind.MANIFEST, repository, manifest.digest, why, manifest.size_bytes)


def _snapshot(connection: Connection, repository_id: int, name: str) -> Snapshot:
    of_index = select(references.c.manifest_digest, references.c.digest).where(
        references.c.repository_id == repository_id, references.c.is_manifest
    )
    children: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(of_index):
        children[row.manifest_digest].add(row.digest)
    of_tags = select(tags.c.name, tags.c.digest, tags.c.pushed_at).where(tags.c.repository_id == repository_id)
    found = {
        row.digest: ManifestFacts(
            row.digest, row.size_bytes, row.subject, row.seen_at, frozenset(children.get(row.digest, ()))
        )
        for row in connection.execute(_manifests_of(repository_id))
    }
    left = select(expiring.c.digest).where(expiring.c.repository_id == repository_id)
    return Snapshot(
        name,
        found,
        [TagFacts(*row) for row in connection.execute(of_tags)],
        set(connection.execute(left).scalars()),
    )


def _manifests_of(repository_id: int, digests: Collection[str] | None = None) -> Select[tuple[str, int, str, float]]:
    touched = func.coalesce(touches.c.touched_at, 0.0)
    seen_at = case((touched > manifests.c.pushed_at, touched), else_=manifests.c.pushed_at).label("seen_at")
    joined = (touches.c.repository_id == manifests.c.repository_id) & (touches.c.digest == manifests.c.digest)
    query = (
        select(manifests.c.digest, manifests.c.size_bytes, manifests.c.subject, seen_at)
        .outerjoin(touches, joined)
        .where(manifests.c.repository_id == repository_id)
    )
    return query if digests is None else query.where(manifests.c.digest.in_(digests))


def _naming(connection: Connection, repository_id: int, digests: Iterable[str]) -> set[str]:
    """Return manifests that name one of *digests*: an engine may report an image by its config."""
    found: set[str] = set()
    wanted = sorted(digests)
    for start in range(0, len(wanted), MAX_DIGESTS):
        query = select(references.c.manifest_digest).where(
            references.c.repository_id == repository_id,
            references.c.digest.in_(wanted[start : start + MAX_DIGESTS]),
        )
        found |= set(connection.execute(query).scalars())
    return found


def _expire(connection: Connection, repository_id: int, digests: Sequence[str]) -> None:
    connection.execute(
        delete(expiring).where(expiring.c.repository_id == repository_id, expiring.c.digest.in_(digests))
    )
    connection.execute(insert(expiring), [{"repository_id": repository_id, "digest": digest} for digest in digests])


def _delete_tags(connection: Connection, repository_id: int, going: Sequence[TagFacts]) -> set[str]:
    """Delete those that are as they were; return their names."""
    named = (tags.c.repository_id == repository_id) & tags.c.name.in_([tag.name for tag in going])
    here = {
        TagFacts(*row) for row in connection.execute(select(tags.c.name, tags.c.digest, tags.c.pushed_at).where(named))
    }
    gone = {tag.name for tag in going if tag in here}
    connection.execute(delete(tags).where(tags.c.repository_id == repository_id, tags.c.name.in_(gone)))
    return gone


def _delete_manifests(connection: Connection, repository_id: int, going: Sequence[ManifestFacts]) -> set[str]:
    """Delete those that were not seen again and that nothing names or keeps; return their digests.

    In the order given: an index that goes no more keeps what it names.
    """
    digests = [manifest.digest for manifest in going]
    seen_at = {row.digest: row.seen_at for row in connection.execute(_manifests_of(repository_id, digests))}
    tagged = select(tags.c.digest).where(tags.c.repository_id == repository_id, tags.c.digest.in_(digests))
    kept = set(connection.execute(tagged).scalars())
    subjects = {manifest.subject for manifest in going if manifest.subject}
    present = {row.digest for row in connection.execute(_manifests_of(repository_id, subjects))}
    naming = select(references.c.digest, references.c.manifest_digest).where(
        references.c.repository_id == repository_id, references.c.digest.in_(digests), references.c.is_manifest
    )
    parents: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(naming):
        parents[row.digest].add(row.manifest_digest)
    gone: set[str] = set()
    for manifest in going:
        is_same = seen_at.get(manifest.digest) == manifest.seen_at and manifest.digest not in kept
        has_subject = manifest.subject in present and manifest.subject not in gone
        if is_same and not has_subject and parents[manifest.digest] <= gone:
            gone.add(manifest.digest)
    for column in (references.c.manifest_digest, touches.c.digest, expiring.c.digest, manifests.c.digest):
        connection.execute(delete(column.table).where(column.table.c.repository_id == repository_id, column.in_(gone)))
    return gone


def _in_parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _IN_ONE_TRANSACTION):
        yield items[start : start + _IN_ONE_TRANSACTION]
