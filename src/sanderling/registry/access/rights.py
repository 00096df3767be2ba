"""Who may do what in which repository. Pure.

A scope is a pattern and actions: `demo/digits`, `demo/*` (all below demo) or
`*`, with `pull`, `push`, `delete`, and `list` (see the name in the catalogue,
and the tags). Who may pull may list. What is granted is never more than what
the principal has.
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
class Proof:
    """What a right rests on; a token that was got with it ends when it ends or changes.

    `kind` is "admin" (a password of an admin user), "token" (a named token),
    "device", or "server" (a token of the server's API). `mark` changes with the secret.
    """

    kind: str
    name: str
    mark: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Someone who has shown who they are, and the scopes that gives them.

    `refused` is what was asked for a token and not granted: asking again is no use.
    `expires_at` (seconds of the epoch) bounds every token that is got with this one.
    `sees_catalogue` is False for a token that was not asked for the catalogue.
    """

    subject: str
    scopes: tuple[Scope, ...]
    refused: tuple[Scope, ...] = ()
    proof: Proof | None = None
    is_narrowed: bool = False
    expires_at: float | None = None
    sees_catalogue: bool = True

    def may(self, action: str, repository: str) -> bool:
        """Say whether *action* is allowed in *repository*."""
        return allows(self.scopes, action, repository)

    def could_ask_for(self, action: str, repository: str) -> bool:
        """Say whether a token with other scopes might allow *action*."""
        return self.is_narrowed and not allows(self.refused, action, repository)

    def narrowed(self, wanted: Iterable[Scope], *, catalogue: bool = False) -> Self:
        """Return the same principal with the wanted rights only, and of those only what it has.

        *catalogue* adds that it may list what it may pull or list. Who wants to pull and
        may only list gets that: clients have no other word for reading tags.
        """
        granted, refused = [], []
        for scope in wanted:
            have = frozenset(a for a in scope.actions if self.may(a, scope.repositories))
            if "pull" in scope.actions - have and self.may("list", scope.repositories):
                granted.append(Scope(scope.repositories, have | {"list"}))
            elif have:
                granted.append(Scope(scope.repositories, have))
            if scope.actions - have:
                refused.append(Scope(scope.repositories, scope.actions - have))
        if catalogue:
            granted += [Scope(s.repositories, frozenset({"list"})) for s in self.scopes if s.actions & {"pull", "list"}]
        return replace(self, scopes=tuple(granted), refused=tuple(refused), is_narrowed=True, sees_catalogue=catalogue)

    def within(self, current: "Principal") -> "Principal":
        """Return what is left of this token's rights when *current* is all that its proof gives now."""
        if not self.is_narrowed:
            return replace(current, expires_at=self.expires_at)
        left = (Scope(s.repositories, s.actions & _actions(current.scopes, s.repositories)) for s in self.scopes)
        return replace(self, scopes=tuple(scope for scope in left if scope.actions))


def _actions(scopes: Iterable[Scope], pattern: str) -> frozenset[str]:
    """Return what is allowed in all of *pattern*, which may be a name."""
    found = {action for scope in scopes if scope.covers(pattern) for action in scope.actions}
    return frozenset(found | {"list"} if "pull" in found else found)


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
