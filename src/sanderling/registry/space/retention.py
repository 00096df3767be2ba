"""Retention rules in SQL, and what they take away. Synchronous, in small transactions.

What a plan says was true when the repository was read. Each deletion looks again, in its own
transaction, whether it is true still: a tag that was pushed again stays, and a manifest stays that
has a tag, a parent or, when it goes with its subject, a subject. What is to go is written down first,
so that a run which is killed between an index and what it names is taken up by the next.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, Select, case, delete, exists, func, or_, select

from sanderling.registry.space.removals import MAX_DIGESTS
from sanderling.registry.space.report import Gone, Kind
from sanderling.registry.space.rules import InUse, ManifestFacts, Plan, Rule, Snapshot, TagFacts, plan, rule_row
from sanderling.registry.space.tables import expiring, rules, touches
from sanderling.registry.tables import manifests, put_row, references, repositories, tags

_IN_ONE_TRANSACTION = 50
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
                for manifest, _ in these:
                    row: dict[str, object] = {"repository_id": repository_id, "digest": manifest.digest}
                    put_row(connection, expiring, row, replace=False)
        for some in _in_parts(found.tags):
            with self._changing(repository_id) as connection:
                gone = [gone_tag(name, *one) for one in some if _delete_tag(connection, repository_id, one[0])]
            yield from gone
        for these in _in_parts(found.manifests):
            with self._changing(repository_id) as connection:
                gone = [
                    gone_manifest(name, *one) for one in these if _delete_manifest(connection, repository_id, one[0])
                ]
            yield from gone
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


def _manifests_of(repository_id: int) -> Select[tuple[str, int, str, float]]:
    touched = func.coalesce(touches.c.touched_at, 0.0)
    seen_at = case((touched > manifests.c.pushed_at, touched), else_=manifests.c.pushed_at).label("seen_at")
    joined = (touches.c.repository_id == manifests.c.repository_id) & (touches.c.digest == manifests.c.digest)
    return (
        select(manifests.c.digest, manifests.c.size_bytes, manifests.c.subject, seen_at)
        .outerjoin(touches, joined)
        .where(manifests.c.repository_id == repository_id)
    )


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


def _delete_tag(connection: Connection, repository_id: int, tag: TagFacts) -> bool:
    same = (tags.c.name == tag.name) & (tags.c.digest == tag.digest) & (tags.c.pushed_at == tag.pushed_at)
    return bool(connection.execute(delete(tags).where(tags.c.repository_id == repository_id, same)).rowcount)


def _delete_manifest(connection: Connection, repository_id: int, manifest: ManifestFacts) -> bool:
    """Delete it, unless it was seen again or something names it; its references go with it."""
    here = connection.execute(_manifests_of(repository_id).where(manifests.c.digest == manifest.digest)).one_or_none()
    if here is None or here.seen_at != manifest.seen_at:
        return False
    parent = exists().where(
        references.c.repository_id == repository_id, references.c.digest == manifest.digest, references.c.is_manifest
    )
    tag = exists().where(tags.c.repository_id == repository_id, tags.c.digest == manifest.digest)
    subject = manifests.alias()
    about = exists().where(
        subject.c.repository_id == repository_id, subject.c.digest == manifest.subject, subject.c.digest != ""
    )
    if connection.execute(select(or_(parent, tag, about))).scalar_one():
        return False
    key = (references.c.repository_id == repository_id) & (references.c.manifest_digest == manifest.digest)
    connection.execute(delete(references).where(key))
    for table in (touches, expiring, manifests):
        connection.execute(
            delete(table).where(table.c.repository_id == repository_id, table.c.digest == manifest.digest)
        )
    return True


def _in_parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _IN_ONE_TRANSACTION):
        yield items[start : start + _IN_ONE_TRANSACTION]
