"""What the registry holds, may hold and lets go of: usage, quotas, retention rules, garbage collection."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from sanderling.errors import Invalid, NotFound
from sanderling.registry import Rule
from sanderling.server.api.depends import MAX_WAIT_S, CallerDep, OwnerDep, PartsDep, Shape, WorkspaceDep, wait_for
from sanderling.server.collections import Collection

router = APIRouter(tags=["registry"])

OF_WORKSPACE = "/workspaces/{ws}/registry"


class RepositoryUsageShape(Shape):
    name: str
    size_bytes: int
    blobs: int
    manifests: int


class UsageShape(Shape):
    """sizeBytes counts what repositories share once; limitBytes is null without a quota."""

    workspace: str
    size_bytes: int
    limit_bytes: int | None
    repositories: list[RepositoryUsageShape]


class QuotaShape(Shape):
    limit_bytes: int | None


class RuleShape(Shape):
    """null: no such condition."""

    pattern: str = Field(max_length=300)
    keep_last: int | None = None
    keep_days: float | None = None
    keep_tags: list[str] = Field(default_factory=list)
    untagged_days: float | None = None


class RulesShape(Shape):
    rules: list[RuleShape]


class NewCollection(Shape):
    dry_run: bool = False


class GoneShape(Shape):
    """kind: tag, manifest, link (a repository lets go of a blob) or blob (bytes in the store)."""

    kind: str
    repository: str
    reference: str
    why: str
    size_bytes: int


class CollectionShape(Shape):
    """state: running, done or failed. problem: why it failed, or why a part was left out."""

    id: str
    state: str
    dry_run: bool
    started_at: datetime
    seconds: float | None
    freed_bytes: int
    stale_uploads: int
    problem: str
    items: list[GoneShape]


@router.get(OF_WORKSPACE + "/usage")
def get_usage(parts: PartsDep, ws: WorkspaceDep) -> UsageShape:
    """Say how many bytes the workspace and each of its repositories hold."""
    parts.workspaces.get(ws)
    return UsageShape.model_validate(parts.registry.space.quotas.usage(ws))


@router.get(OF_WORKSPACE + "/quota")
def get_quota(parts: PartsDep, ws: WorkspaceDep) -> UsageShape:
    """Say what the workspace may hold, and holds."""
    return get_usage(parts, ws)


@router.put(OF_WORKSPACE + "/quota")
def set_quota(parts: PartsDep, ws: WorkspaceDep, caller: CallerDep, body: QuotaShape) -> UsageShape:
    """Limit what the workspace may hold; null takes the limit away. What it holds already stays."""
    caller.require_owner("set quotas")
    parts.workspaces.get(ws)
    parts.registry.space.quotas.set_limit(ws, body.limit_bytes)
    return get_usage(parts, ws)


@router.get(OF_WORKSPACE + "/retention")
def get_rules(parts: PartsDep, ws: WorkspaceDep) -> RulesShape:
    """List the workspace's retention rules."""
    parts.workspaces.get(ws)
    found = [rule for rule in parts.registry.space.retention.rules() if rule.pattern.startswith(f"{ws}/")]
    return RulesShape(rules=[_rule_shape(rule) for rule in found])


@router.put(OF_WORKSPACE + "/retention")
def set_rule(parts: PartsDep, ws: WorkspaceDep, body: RuleShape) -> RulesShape:
    """Keep this rule, in place of another of its pattern. It is applied with the next collection."""
    parts.workspaces.get(ws)
    _check_pattern(ws, body.pattern)
    rule = Rule(body.pattern, body.keep_last, body.keep_days, tuple(body.keep_tags), body.untagged_days)
    parts.registry.space.retention.set_rule(rule)
    return get_rules(parts, ws)


@router.delete(OF_WORKSPACE + "/retention")
def clear_rule(parts: PartsDep, ws: WorkspaceDep, pattern: Annotated[str, Query(max_length=300)]) -> RulesShape:
    """Delete the rule of this pattern."""
    _check_pattern(ws, pattern)
    if not parts.registry.space.retention.clear_rule(pattern):
        raise NotFound(f"there is no retention rule for {pattern}; `sanderling registry retention show` shows them")
    return get_rules(parts, ws)


@router.post("/registry/collections", status_code=202)
async def begin_collection(parts: PartsDep, _: OwnerDep, body: NewCollection) -> CollectionShape:
    """Begin to collect garbage in the whole registry, beside pushes and pulls; dryRun only says what would go."""
    return _collection_shape(parts.collections.begin(dry_run=body.dry_run))


@router.get("/registry/collections/{collection_id}")
async def get_collection(
    parts: PartsDep,
    _: OwnerDep,
    collection_id: str,
    wait_s: Annotated[float, Query(alias="waitS", ge=0, le=MAX_WAIT_S)] = 0,
) -> Response:
    """Say what a collection removed, or would; wait for its end up to *waitS* seconds."""
    found = parts.collections.get(collection_id)
    if wait_s > 0:
        await wait_for(parts, wait_s, found.ended.wait)
    # Written here: the framework's own way checks each of many thousand items twice.
    return Response(_collection_shape(found).model_dump_json(by_alias=True), media_type="application/json")


def _check_pattern(ws: str, pattern: str) -> None:
    if not pattern.startswith(f"{ws}/"):
        raise Invalid(f"the pattern {pattern[:300]!r} is not of workspace '{ws}': begin it with {ws}/")


def _rule_shape(rule: Rule) -> RuleShape:
    return RuleShape(
        pattern=rule.pattern,
        keep_last=rule.keep_last,
        keep_days=rule.keep_days,
        keep_tags=list(rule.keep_tags),
        untagged_days=rule.untagged_days,
    )


def _collection_shape(one: Collection) -> CollectionShape:
    report = one.report
    return CollectionShape(
        id=one.id,
        state=one.state,
        dry_run=one.is_dry_run,
        started_at=one.started_at,
        seconds=None if report is None else round(report.seconds, 3),
        freed_bytes=0 if report is None else report.freed_bytes,
        stale_uploads=0 if report is None else report.stale_uploads,
        problem=one.fault if report is None else report.problem,
        items=[
            GoneShape(
                kind=gone.kind.value,
                repository=gone.repository,
                reference=gone.reference,
                why=gone.why,
                size_bytes=gone.size_bytes,
            )
            for gone in (() if report is None else report.gone)
        ],
    )
