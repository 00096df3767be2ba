"""Named tokens: what they open, for how long, and what is kept of them."""

import pytest
from sqlalchemy import Engine, text
from tests.registry.world import Clock, seal, unseal

from sanderling.errors import Conflict, Invalid
from sanderling.registry import RegistryCredentials, Scope
from sanderling.registry.access import named_tokens
from sanderling.registry.access.secrets import hash_password
from sanderling.registry.access.tokens import TokenExpired
from sanderling.registry.errors import TokenExists, TokenNotFound

PULL = Scope.of("demo/digits", "pull")


def bearer(credentials: RegistryCredentials, user: str, password: str) -> str:
    principal = credentials.authenticate(user, password)
    assert principal is not None
    return credentials.grant(principal.narrowed([PULL]), 300)


def test_a_token_opens_its_repositories_and_actions_alone(credentials: RegistryCredentials) -> None:
    issued = credentials.tokens.create("demo", "ci", [PULL, Scope.of("demo/team/*", "pull", "push")])
    assert issued.token.username == "demo.ci"
    assert len(issued.password) == 52
    principal = credentials.authenticate("demo.ci", issued.password)
    assert principal is not None
    may = {
        (action, name)
        for action in ("pull", "push", "delete", "list")
        for name in ("demo/digits", "demo/team/a/b", "demo/team", "demo/other", "demo2/digits", "other/digits")
        if principal.may(action, name)
    }
    assert may == {
        *((action, "demo/digits") for action in ("pull", "list")),
        *((action, "demo/team/a/b") for action in ("pull", "push", "list")),
    }


def test_the_password_is_hashed_under_a_key_and_never_shown_again(
    credentials: RegistryCredentials, engine: Engine
) -> None:
    issued = credentials.tokens.create("demo", "ci", [PULL])
    with engine.connect() as connection:
        everything = "".join(str(row) for row in connection.execute(text("SELECT * FROM registry_tokens")))
    assert issued.password not in everything
    assert issued.password not in repr(issued)
    assert issued.token.hash not in repr(issued)
    elsewhere = hash_password(b"another key", issued.password)
    assert elsewhere != issued.token.hash


@pytest.mark.parametrize(
    "user", ["demo", "ci", "demo.", ".ci", "demo.CI", "demo.ci.x", "other.ci", "token", "demo.ci\0"]
)
def test_only_its_own_user_name_has_its_password(credentials: RegistryCredentials, user: str) -> None:
    issued = credentials.tokens.create("demo", "ci", [PULL])
    credentials.tokens.create("other", "ci", [Scope.of("other/*", "pull")])
    assert credentials.authenticate(user, issued.password) is None


def test_a_token_and_what_was_got_with_it_end_at_its_expiry(credentials: RegistryCredentials, clock: Clock) -> None:
    issued = credentials.tokens.create("demo", "ci", [PULL], expires_at=clock.now + 60)
    clock.now += 59
    token = bearer(credentials, "demo.ci", issued.password)
    assert credentials.verify(token) is not None
    clock.now += 1
    for ended in (lambda: credentials.verify(token), lambda: credentials.authenticate("demo.ci", issued.password)):
        with pytest.raises(TokenExpired):
            ended()
    assert credentials.authenticate("demo.ci", "wrong") is None, "only who has the password learns that it has ended"


def test_disabling_regenerating_and_deleting_end_tokens_at_once(credentials: RegistryCredentials) -> None:
    tokens = credentials.tokens
    issued = tokens.create("demo", "ci", [PULL])
    token = bearer(credentials, "demo.ci", issued.password)
    tokens.set_enabled("demo", "ci", False)
    assert (credentials.verify(token), credentials.authenticate("demo.ci", issued.password)) == (None, None)
    tokens.set_enabled("demo", "ci", True)
    assert credentials.verify(token) is not None
    again = tokens.regenerate("demo", "ci")
    assert (credentials.verify(token), credentials.authenticate("demo.ci", issued.password)) == (None, None)
    token = bearer(credentials, "demo.ci", again.password)
    tokens.delete("demo", "ci")
    assert (credentials.verify(token), credentials.authenticate("demo.ci", again.password)) == (None, None)
    tokens.create("demo", "ci", [PULL])
    assert credentials.verify(token) is None


def test_tokens_outlive_the_process(credentials: RegistryCredentials, engine: Engine, clock: Clock) -> None:
    issued = credentials.tokens.create("demo", "ci", [PULL])
    token = bearer(credentials, "demo.ci", issued.password)
    reborn = RegistryCredentials(engine, seal, unseal, clock=clock)
    assert reborn.authenticate("demo.ci", issued.password) is not None
    assert reborn.verify(token) is not None


def test_the_last_use_is_remembered_to_the_minute(credentials: RegistryCredentials, clock: Clock) -> None:
    tokens = credentials.tokens
    issued = tokens.create("demo", "ci", [PULL])
    credentials.authenticate("demo.ci", "wrong")
    assert tokens.get("demo", "ci").used_at is None
    began = clock.now
    for step in (0, 30, 29):
        clock.now += step
        credentials.authenticate("demo.ci", issued.password)
        assert tokens.get("demo", "ci").used_at == began
    clock.now += 1
    credentials.authenticate("demo.ci", issued.password)
    assert tokens.get("demo", "ci").used_at == clock.now


def test_tokens_of_a_workspace_are_listed_by_name(credentials: RegistryCredentials) -> None:
    for name in ("b", "a"):
        credentials.tokens.create("demo", name, [PULL], description=f"for {name}")
    credentials.tokens.create("other", "c", [Scope.of("other/*", "pull")])
    assert [(t.name, t.description) for t in credentials.tokens.of("demo")] == [("a", "for a"), ("b", "for b")]


@pytest.mark.parametrize("name", ["", "CI", "-ci", "ci-", "a.b", "a/b", "a_b", "x" * 65, "ci\n", "é"])
def test_a_name_that_no_token_can_have_is_refused(credentials: RegistryCredentials, name: str) -> None:
    with pytest.raises(Invalid, match="no token's name"):
        credentials.tokens.create("demo", name, [PULL])


@pytest.mark.parametrize(
    "scope",
    [
        Scope("*", frozenset({"pull"})),
        Scope("demo", frozenset({"pull"})),
        Scope("other/digits", frozenset({"pull"})),
        Scope("demo2/*", frozenset({"pull"})),
        Scope("demo/../other", frozenset({"pull"})),
        Scope("demo/a*", frozenset({"pull"})),
        Scope("demo/a", frozenset()),
        Scope("demo/a", frozenset({"admin"})),
    ],
)
def test_no_token_reaches_out_of_its_workspace(credentials: RegistryCredentials, scope: Scope) -> None:
    with pytest.raises(Invalid):
        credentials.tokens.create("demo", "ci", [scope])
    assert credentials.tokens.of("demo") == []


def test_what_makes_no_sense_is_refused(credentials: RegistryCredentials, clock: Clock) -> None:
    tokens = credentials.tokens
    tokens.create("demo", "ci", [PULL])
    with pytest.raises(TokenExists, match="already"):
        tokens.create("demo", "ci", [PULL])
    for expires_at in (clock.now, 0.0, float("nan"), float("inf")):
        with pytest.raises(Invalid, match="future"):
            tokens.create("demo", "late", [PULL], expires_at=expires_at)
    with pytest.raises(Invalid):
        tokens.create("demo", "none", [])
    with pytest.raises(Invalid):
        tokens.create("demo", "many", [Scope.of(f"demo/r{n}", "pull") for n in range(101)])
    with pytest.raises(Invalid, match="description"):
        tokens.create("demo", "long", [PULL], description="x" * 1001)
    for act in (tokens.get, tokens.delete, tokens.regenerate, lambda w, n: tokens.set_enabled(w, n, True)):
        with pytest.raises(TokenNotFound, match="nix"):
            act("demo", "nix")


def test_a_workspace_has_a_bounded_number_of_tokens(
    credentials: RegistryCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_tokens, "MAX_TOKENS", 2)
    for name in ("a", "b"):
        credentials.tokens.create("demo", name, [PULL])
    with pytest.raises(Conflict, match="2 registry tokens"):
        credentials.tokens.create("demo", "c", [PULL])


def test_a_wrong_password_costs_what_an_unknown_user_does(credentials: RegistryCredentials) -> None:
    """Counted in what is computed, not in time: the same reads and the same comparisons."""
    credentials.set_admin_enabled("demo", True)
    credentials.tokens.create("demo", "ci", [PULL])
    credentials.authenticate("demo", "warm")  # what is sealed is opened once
    counts = []
    for user in ("demo", "nobody", "demo.ci", "demo.nobody"):
        counts.append(comparisons(credentials, user))
    assert counts[0] == counts[1]
    assert counts[2] == counts[3]


def comparisons(credentials: RegistryCredentials, user: str) -> list[str]:
    import sys

    called: list[str] = []

    def watch(frame: object, event: str, argument: object) -> None:
        name = getattr(argument, "__qualname__", "") if event == "c_call" else ""
        if name in ("compare_digest", "openssl_hmac_new", "hmac_digest", "new") or name.endswith(".execute"):
            called.append(name)

    sys.setprofile(watch)
    try:
        assert credentials.authenticate(user, "wrong", user) is None
    finally:
        sys.setprofile(None)
    return called
