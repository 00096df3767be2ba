"""What a workspace's registry holds, may hold and lets go of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sanderling.errors import SanderlingError
from sanderling.sdk.wire import endpoint
from sanderling.sdk.workspace import Workspace

WAIT_S = 20.0


class CollectionFailed(SanderlingError):
    """The server could not collect garbage."""


@dataclass(frozen=True, slots=True)
class RepositoryUsage:
    """What one repository holds; what it shares with others counts here too."""

    name: str
    size_bytes: int
    blobs: int
    manifests: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace holds in the registry.

    Attributes:
        size_bytes: What it holds; what its repositories share counts once.
        limit_bytes: Its quota, or None.
        repositories: Each repository.
    """

    workspace: str
    size_bytes: int
    limit_bytes: int | None
    repositories: Sequence[RepositoryUsage]


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """What to keep in some repositories; None is: no such condition. What any rule keeps is kept.

    Attributes:
        pattern: `demo/digits`, or `demo/*` for all of demo.
        keep_last: Keep this many images that have a tag, the latest pushed.
        keep_days: Keep tags that were pushed within this many days.
        keep_tags: Keep tags that match one of these, as file names do (`v*`), always.
        untagged_days: Delete images that have had no tag for this many days.
    """

    pattern: str
    keep_last: int | None = None
    keep_days: float | None = None
    keep_tags: Sequence[str] = ()
    untagged_days: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """One thing that went, or would go.

    Attributes:
        kind: `tag`, `manifest`, `link` (a repository lets go of a blob) or `blob` (its bytes).
        repository: Where it was; empty for bytes.
        reference: The tag or digest.
        why: A reason for people.
        size_bytes: What its going frees.
    """

    kind: str
    repository: str
    reference: str
    why: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Collection:
    """A garbage collection that has ended.

    Attributes:
        is_dry_run: Whether it only looked.
        freed_bytes: How many bytes went, or would go.
        stale_uploads: How many uploads were ended that nobody went on with.
        seconds: How long it took.
        problem: Why a part of it was left out, or empty.
        gone: What went, or would go.
    """

    is_dry_run: bool
    freed_bytes: int
    stale_uploads: int
    seconds: float
    problem: str
    gone: Sequence[Gone]


class RegistrySpace:
    """Usage, quota, retention rules and garbage collection of the workspace's server.

    Args:
        workspace: The workspace.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def usage(self) -> Usage:
        """Read what the workspace holds, and its quota.

        Returns:
            The usage.
        """
        return _usage(self._call("GET", "usage"))

    def set_quota(self, limit_bytes: int | None) -> Usage:
        """Limit what the workspace may hold; for the owner of the server.

        Args:
            limit_bytes: The limit; None takes it away.

        Returns:
            The usage.
        """
        return _usage(self._call("PUT", "quota", body={"limitBytes": limit_bytes}))

    def rules(self) -> Sequence[RetentionRule]:
        """Read the workspace's retention rules.

        Returns:
            The rules, by pattern.
        """
        return _rules(self._call("GET", "retention"))

    def set_rule(self, rule: RetentionRule) -> Sequence[RetentionRule]:
        """Keep a rule, in place of another of its pattern. It is applied with the next collection.

        Args:
            rule: The rule.

        Returns:
            All rules of the workspace.

        Raises:
            Invalid: The rule says nothing, or something impossible.
        """
        body = {
            "pattern": rule.pattern,
            "keepLast": rule.keep_last,
            "keepDays": rule.keep_days,
            "keepTags": list(rule.keep_tags),
            "untaggedDays": rule.untagged_days,
        }
        return _rules(self._call("PUT", "retention", body=body))

    def clear_rule(self, pattern: str) -> Sequence[RetentionRule]:
        """Delete the rule of a pattern.

        Args:
            pattern: As it was given.

        Returns:
            The rules that are left.

        Raises:
            NotFound: There is no such rule.
        """
        return _rules(self._call("DELETE", "retention", params={"pattern": pattern}))

    def collect(self, *, dry_run: bool = False, on_wait: Callable[[], None] | None = None) -> Collection:
        """Apply retention rules and remove garbage in the whole registry; for the owner of the server.

        Args:
            dry_run: Only say what would go.
            on_wait: Called now and then while it runs.

        Returns:
            What went, or would go.

        Raises:
            Conflict: Another collection is running.
            CollectionFailed: The server could not do it.
        """
        path = endpoint("api", "v1", "registry", "collections")
        answer = self.workspace.client.call("POST", path, body={"dryRun": dry_run})
        while answer["state"] == "running":
            if on_wait:
                on_wait()
            path = endpoint("api", "v1", "registry", "collections", answer["id"])
            answer = self.workspace.client.call("GET", path, params={"waitS": str(WAIT_S)}, timeout_s=WAIT_S + 30)
        if answer["state"] != "done":
            raise CollectionFailed(f"the registry's garbage was not collected: {answer['problem']}")
        return Collection(
            bool(answer["dryRun"]),
            int(answer["freedBytes"]),
            int(answer["staleUploads"]),
            float(answer["seconds"] or 0),
            answer.get("problem") or "",
            tuple(
                Gone(item["kind"], item["repository"], item["reference"], item["why"], int(item["sizeBytes"]))
                for item in answer["items"]
            ),
        )

    def _call(self, method: str, *segments: str, body: Any = None, params: Mapping[str, str] | None = None) -> Any:
        path = endpoint("api", "v1", "workspaces", self.workspace.name, "registry", *segments)
        return self.workspace.client.call(method, path, body=body, params=params)


def _usage(answer: Mapping[str, Any]) -> Usage:
    limit = answer.get("limitBytes")
    repositories = tuple(
        RepositoryUsage(one["name"], int(one["sizeBytes"]), int(one["blobs"]), int(one["manifests"]))
        for one in answer.get("repositories", ())
    )
    return Usage(answer["workspace"], int(answer["sizeBytes"]), None if limit is None else int(limit), repositories)


def _rules(answer: Mapping[str, Any]) -> Sequence[RetentionRule]:
    return tuple(
        RetentionRule(
            one["pattern"], one["keepLast"], one["keepDays"], tuple(one.get("keepTags") or ()), one["untaggedDays"]
        )
        for one in answer.get("rules", ())
    )
