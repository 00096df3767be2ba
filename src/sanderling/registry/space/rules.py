"""What retention rules keep, and what goes: pure.

- Without a rule nothing goes. Rules add up: what one rule keeps, no other takes away.
- `keep_last` and `keep_days` are about tags: with either, a tag that none of them keeps goes. Time
  counts from the tag's last push; `keep_last` counts images, so two tags of one image count once.
- `keep_tags` (globs) and what devices run or are to run are kept always, with all that belongs to it.
- What was pushed, or told of by digest, within the grace time is kept, whatever a rule says.
- A manifest goes with its last tag. One that lost its tag earlier, or never had one, goes after
  `untagged_days`, and stays without that.
- What a kept index names is kept. A manifest without a tag that is about another (a signature: it
  has a subject), or is named by an index, goes when that goes, and not before.
- Referrers of a subject that a client deleted stay: the subject may be pushed again, and the
  specification lets them be there first. They are untagged manifests then.
- Tags such as cosign's `sha256-HEX.sig` name no image: they go with the image of that digest (`companions`).
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from heapq import heappop, heappush

from sanderling.errors import Invalid
from sanderling.oci import Digest, Reference, is_repository
from sanderling.registry.space.companions import without_companions

DAY_S = 24 * 3600.0
MAX_KEEP = 1_000_000
_GLOB = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,128}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What to keep of the repositories of *pattern*: `demo/digits`, or `demo/*` for all below `demo`.

    None is: no such condition. Raises `Invalid`.
    """

    pattern: str
    keep_last: int | None = None
    keep_days: float | None = None
    keep_tags: tuple[str, ...] = ()
    untagged_days: float | None = None

    def __post_init__(self) -> None:
        if len(self.pattern) > 255 or not is_repository(self.pattern.removesuffix("/*")):
            raise Invalid(
                f"{self.pattern[:300]!r} is no pattern of repositories: demo/digits, or demo/* for all of demo"
            )
        if self.keep_last is not None and not 1 <= self.keep_last <= MAX_KEEP:
            raise Invalid(f"keep the last {self.keep_last}: give a number from 1")
        for name, days in (("keep", self.keep_days), ("untagged", self.untagged_days)):
            if days is not None and not 0 < days <= MAX_KEEP:
                raise Invalid(f"{name} for {days:g} days: give a number above 0")
        for glob in self.keep_tags:
            if not _GLOB.fullmatch(glob):
                raise Invalid(
                    f"{glob[:200]!r} matches no tag: letters, digits, '_', '.', '-', and * ? [ ] as in file names"
                )
        if len(self.keep_tags) > 100:
            raise Invalid(f"{len(self.keep_tags)} patterns of tags; 100 is the limit")
        if not self.keep_tags and self.keep_last is self.keep_days is self.untagged_days is None:
            raise Invalid(f"the rule for {self.pattern} says nothing: give what to keep, or clear it")

    def matches(self, repository: str) -> bool:
        """Whether the rule is about *repository*."""
        if self.pattern.endswith("/*"):
            return repository.startswith(self.pattern[:-1])
        return repository == self.pattern


@dataclass(frozen=True, slots=True)
class TagFacts:
    """A tag, and when it was last pushed."""

    name: str
    digest: str
    pushed_at: float


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """A manifest: `seen_at` is when it was last pushed, told of by digest, or lost a tag."""

    digest: str
    size_bytes: int
    subject: str
    seen_at: float
    children: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one moment. *expiring* lost tag or index to a rule in a run that did not come to its end."""

    repository: str
    manifests: Mapping[str, ManifestFacts]
    tags: Sequence[TagFacts]
    expiring: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class InUse:
    """What devices run or are to run: (repository, tag or digest), and digests of whatever repository."""

    references: frozenset[tuple[str, str]] = frozenset()
    digests: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, images: Iterable[str]) -> "InUse":
        """Read references as deployments have them, and digests alone. What is neither is no image of ours.

        The registry's name is left out of account: it may have several, as behind a relay.
        """
        references, digests = set(), set()
        for image in images:
            try:
                if image.startswith(("sha256:", "sha512:")):
                    digests.add(str(Digest.parse(image)))
                    continue
                reference = Reference.parse(image)
            except Invalid:
                continue
            if reference.digest:
                digests.add(str(reference.digest))
            else:
                references.add((reference.repository, reference.tag or "latest"))
        return cls(frozenset(references), frozenset(digests))

    def holds(self, repository: str, tag: TagFacts) -> bool:
        """Whether *tag* or what it names is in use."""
        return (repository, tag.name) in self.references or tag.digest in self.digests


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, and why; a manifest comes before those that it names, and before those that are about it."""

    tags: tuple[tuple[TagFacts, str], ...] = ()
    manifests: tuple[tuple[ManifestFacts, str], ...] = ()


def plan(
    snapshot: Snapshot, rules: Iterable[Rule], in_use: InUse, now: float, grace_s: float, used: Collection[str] = ()
) -> Plan:
    """Return what the *rules* that match take away from the repository. *used* are further manifests in use."""
    matching = [rule for rule in rules if rule.matches(snapshot.repository)]
    if not matching:
        return Plan()
    snapshot, companions = without_companions(snapshot)
    going_tags = _going_tags(snapshot, matching, in_use, now, grace_s)
    candidates = _Candidates(snapshot, matching, {tag.name for tag, _ in going_tags}, now, grace_s)
    whys = {
        digest: why
        for digest, manifest in snapshot.manifests.items()
        if digest not in in_use.digests and digest not in used and (why := candidates.why(manifest))
    }
    for digest in _kept(snapshot, [digest for digest in snapshot.manifests if digest not in whys]):
        whys.pop(digest, None)
    going_tags += [(tag, why) for digest, why in whys.items() for tag in companions.get(digest, ())]
    return Plan(
        tuple(going_tags), tuple((snapshot.manifests[digest], whys[digest]) for digest in _ordered(snapshot, whys))
    )


def _going_tags(
    snapshot: Snapshot, rules: list[Rule], in_use: InUse, now: float, grace_s: float
) -> list[tuple[TagFacts, str]]:
    """Return the tags that no rule keeps, and which conditions they missed."""
    if all(rule.keep_last is None and rule.keep_days is None for rule in rules):
        return []
    latest = sorted(snapshot.tags, key=lambda tag: (-tag.pushed_at, tag.name))
    rank: dict[str, int] = {}
    for tag in latest:
        rank.setdefault(tag.digest, len(rank))
    last = max((rule.keep_last for rule in rules if rule.keep_last is not None), default=0)
    days = max((rule.keep_days for rule in rules if rule.keep_days is not None), default=0.0)
    globs = [glob for rule in rules for glob in rule.keep_tags]
    missed = [f"not in last {last}"] if last else []
    missed += [f"over {days:g} days"] if days else []
    why = ", ".join(missed)
    return [
        (tag, why)
        for tag in latest
        if rank[tag.digest] >= last
        and now - tag.pushed_at > max(days * DAY_S, grace_s)
        and not in_use.holds(snapshot.repository, tag)
        and not any(fnmatchcase(tag.name, glob) for glob in globs)
    ]


@dataclass(slots=True)
class _Candidates:
    """Which manifests may go, if nothing that stays needs them."""

    snapshot: Snapshot
    rules: list[Rule]
    going: set[str]
    now: float
    grace_s: float
    _tags: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _parents: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for tag in self.snapshot.tags:
            self._tags[tag.digest].append(tag.name)
        for manifest in self.snapshot.manifests.values():
            for child in manifest.children:
                self._parents[child].append(manifest.digest)

    def why(self, manifest: ManifestFacts) -> str:
        """Return why it may go, or nothing."""
        age = self.now - manifest.seen_at
        tags = self._tags.get(manifest.digest, ())
        if age <= self.grace_s or any(tag not in self.going for tag in tags):
            return ""
        if tags:
            return "its last tag goes"
        if manifest.subject in self.snapshot.manifests:
            return "its subject goes"
        if manifest.digest in self._parents:
            return "its index goes"
        if manifest.digest in self.snapshot.expiring:
            return "left by an earlier run"
        days = max((rule.untagged_days for rule in self.rules if rule.untagged_days is not None), default=None)
        if days is not None and age > days * DAY_S:
            return f"no tag for {days:g} days"
        return ""


def _kept(snapshot: Snapshot, roots: Iterable[str]) -> set[str]:
    """Return all that *roots* need: what they are about, what indexes name, what is about any of them."""
    referrers: dict[str, list[str]] = defaultdict(list)
    for manifest in snapshot.manifests.values():
        if manifest.subject:
            referrers[manifest.subject].append(manifest.digest)
    roots = list(roots)
    waiting = roots + [snapshot.manifests[digest].subject for digest in roots]
    kept: set[str] = set()
    while waiting:
        digest = waiting.pop()
        if digest in snapshot.manifests and digest not in kept:
            kept.add(digest)
            waiting += snapshot.manifests[digest].children
            waiting += referrers.get(digest, ())
    return kept


def _ordered(snapshot: Snapshot, going: Collection[str]) -> list[str]:
    """Sort *going*: an index before what it names, and a subject before what is about it, where both can be.

    They name hashes, so indexes alone make no circle. With subjects they can: an index may be about what it names.
    It goes first then, for without what it names it would be broken.
    """
    facts = {digest: snapshot.manifests[digest] for digest in going}
    parents = Counter(child for one in facts.values() for child in one.children if child in facts)
    about: dict[str, list[str]] = defaultdict(list)
    for digest, one in facts.items():
        about[one.subject].append(digest)
    behind = {digest for digest, one in facts.items() if one.subject in facts}
    # Heaps, so that the order is always the same. Of what is held by its subject, an index may be in a circle.
    free: list[tuple[bool, str]] = []
    held: list[tuple[bool, str]] = []

    def offer(digest: str) -> None:
        heappush(held if digest in behind else free, (not facts[digest].children, digest))

    for digest in facts:
        if not parents[digest]:
            offer(digest)
    order: dict[str, None] = {}
    while free or held:
        _, digest = heappop(free or held)
        if digest in order:
            continue
        order[digest] = None
        for child in facts[digest].children:
            parents[child] -= 1
            if not parents[child] and child in facts:
                offer(child)
        for referrer in about[digest]:
            behind.discard(referrer)
            if not parents[referrer]:
                offer(referrer)
    return list(order)


def rule_row(rule: Rule) -> dict[str, object]:
    """Return the row that keeps *rule*."""
    return {
        "pattern": rule.pattern,
        "keep_last": rule.keep_last,
        "keep_days": rule.keep_days,
        "keep_tags": json.dumps(rule.keep_tags),
        "untagged_days": rule.untagged_days,
    }
