"""Who may do what in which repository. Pure.

A scope is a pattern and actions: `demo/digits`, `demo/*` (all below demo) or
`*`, with `pull`, `push`, `delete`, and `list` (see the name in the catalogue).
What is granted is never more than what the principal has.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from sanderling.errors import Invalid
from sanderling.oci import is_repository

ACTIONS = frozenset({"pull", "push", "delete", "list"})
_MAX_SCOPES = 50


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions that are allowed in the repositories of a pattern."""

    repositories: str
    actions: frozenset[str]

    @classmethod
    def of(cls, repositories: str, *actions: str) -> Self:
        """Return a scope, checked: `Scope.of("demo/*", "pull")`; raise `Invalid`."""
        name = repositories.removesuffix("/*")
        if repositories != "*" and not is_repository(name):
            raise Invalid(f"{repositories[:100]!r} is no pattern of repositories: name, name/* or * is expected")
        if not actions or not ACTIONS.issuperset(actions):
            raise Invalid(f"actions of a scope are {', '.join(sorted(ACTIONS))}")
        return cls(repositories, frozenset(actions))

    def covers(self, repository: str) -> bool:
        """Say whether *repository* matches the pattern."""
        if self.repositories == "*":
            return True
        if self.repositories.endswith("/*"):
            return repository.startswith(self.repositories[:-1])
        return repository == self.repositories


def allows(scopes: Iterable[Scope], action: str, repository: str) -> bool:
    """Say whether any of *scopes* allows *action*; who may pull may also list."""
    wanted = {action, "pull"} if action == "list" else {action}
    return any(wanted & scope.actions and scope.covers(repository) for scope in scopes)


@dataclass(frozen=True, slots=True)
class AdminProof:
    """Which password of which admin user a right rests on; it ends when that changes."""

    workspace: str
    which: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Someone who has shown who they are, and the scopes that gives them.

    `refused` is what was asked for a token and not granted: asking again is no use.
    `expires_at` (seconds of the epoch) bounds every token that is got with this one.
    """

    subject: str
    scopes: tuple[Scope, ...]
    refused: tuple[Scope, ...] = ()
    proof: AdminProof | None = None
    is_narrowed: bool = False
    expires_at: float | None = None

    def may(self, action: str, repository: str) -> bool:
        """Say whether *action* is allowed in *repository*."""
        return allows(self.scopes, action, repository)

    def could_ask_for(self, action: str, repository: str) -> bool:
        """Say whether a token with other scopes might allow *action*."""
        return self.is_narrowed and not allows(self.refused, action, repository)

    @property
    def could_ask_for_catalogue(self) -> bool:
        """Say whether this is a token of a few rights that was got without asking for the catalogue."""
        return self.is_narrowed and not any("list" in scope.actions for scope in (*self.scopes, *self.refused))

    def narrowed(self, wanted: Iterable[Scope], *, catalogue: bool = False) -> Self:
        """Return the same principal with the wanted rights only, and of those only what it has.

        *catalogue* adds that it may list what it may pull.
        """
        granted, refused = [], []
        for scope in wanted:
            have = frozenset(a for a in scope.actions if self.may(a, scope.repositories))
            if have:
                granted.append(Scope(scope.repositories, have))
            if scope.actions - have:
                refused.append(Scope(scope.repositories, scope.actions - have))
        if catalogue:
            seen = [s.repositories for s in self.scopes if s.actions & {"pull", "list"}]
            granted += [Scope(name, frozenset({"list"})) for name in seen]
            if not seen:
                refused.append(Scope("*", frozenset({"list"})))
        return replace(self, scopes=tuple(granted), refused=tuple(refused), is_narrowed=True)


def parse_wanted(texts: Iterable[str]) -> tuple[list[Scope], bool]:
    """Read the `scope` parameters of a token request; return the scopes, and whether the catalogue is wanted.

    Scopes we do not have are left out, as the token specification asks; raise
    `Invalid` when there are too many.
    """
    wanted: list[Scope] = []
    catalogue = False
    words = [word for text in texts for word in text.split()]
    if len(words) > _MAX_SCOPES:
        raise Invalid(f"a token has at most {_MAX_SCOPES} scopes")
    for word in words:
        kind, _, rest = word.partition(":")
        name, _, action_text = rest.rpartition(":")
        if kind == "registry" and name == "catalog":
            catalogue = True
        elif kind.partition("(")[0] == "repository" and is_repository(name):
            actions = set(action_text.split(","))
            if "*" in actions:
                actions |= {"pull", "push", "delete"}
            if actions & ACTIONS:
                wanted.append(Scope(name, frozenset(actions & ACTIONS)))
    return wanted, catalogue
