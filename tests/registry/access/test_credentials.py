"""Admin users and tokens."""

import pytest
from sqlalchemy import Engine, text
from tests.registry.world import Clock, seal, unseal

from sanderling.errors import Invalid
from sanderling.registry import Principal, RegistryCredentials, Scope, Slowed
from sanderling.registry.access.tokens import TokenExpired, make_token


def passwords_of(credentials: RegistryCredentials) -> tuple[str, str]:
    return credentials.set_admin_enabled("demo", True).passwords


def test_the_admin_user_is_off_until_it_is_switched_on(credentials: RegistryCredentials) -> None:
    admin = credentials.admin("demo")
    assert (admin.username, admin.enabled) == ("demo", False)
    assert credentials.authenticate("demo", admin.passwords[0]) is None
    assert credentials.set_admin_enabled("demo", True).passwords == admin.passwords
    assert credentials.authenticate("demo", admin.passwords[0]) is not None
    credentials.set_admin_enabled("demo", False)
    assert credentials.authenticate("demo", admin.passwords[0]) is None


def test_both_passwords_work_and_open_the_workspace_alone(credentials: RegistryCredentials) -> None:
    first, second = passwords_of(credentials)
    assert first != second
    assert len(first) == 52
    for password in (first, second):
        principal = credentials.authenticate("demo", password)
        assert principal is not None
        assert all(principal.may(action, "demo/digits") for action in ("pull", "push", "delete"))
        assert not any(principal.may("pull", name) for name in ("demo2/digits", "demo", "other/demo/digits"))


def test_one_password_is_replaced_while_the_other_goes_on(credentials: RegistryCredentials) -> None:
    first, second = passwords_of(credentials)
    assert credentials.regenerate("demo", "password").passwords[1] == second
    assert credentials.authenticate("demo", first) is None
    assert credentials.authenticate("demo", second) is not None
    assert credentials.regenerate("demo", "password2").passwords[1] != second
    with pytest.raises(Invalid, match="password2"):
        credentials.regenerate("demo", "enabled")  # type: ignore[arg-type]


def test_passwords_are_sealed_at_rest_and_not_shown_by_repr(credentials: RegistryCredentials, engine: Engine) -> None:
    first, _ = passwords_of(credentials)
    with engine.connect() as connection:
        (kept,) = connection.execute(text("SELECT password FROM registry_admins")).one()
    assert kept == seal(first.encode())
    assert first not in repr(credentials.admin("demo"))


def test_credentials_outlive_the_process(credentials: RegistryCredentials, engine: Engine, clock: Clock) -> None:
    first, _ = passwords_of(credentials)
    token = credentials.issue("device/1", [Scope.of("demo/*", "pull")], 60)
    reborn = RegistryCredentials(engine, seal, unseal, clock=clock)
    assert reborn.authenticate("demo", first) is not None
    assert reborn.verify(token) is not None


@pytest.mark.parametrize("user", ["", "nobody", "demo/x", "DEMO", "x" * 1000, "\x00", "demo'--", "é"])
@pytest.mark.parametrize("password", ["", "wrong", "é", "\x00", "x" * 100_000, "sdr1.", "sdr1.x.y", "sdr1.é.x"])
def test_nobody_else_is_known(credentials: RegistryCredentials, user: str, password: str) -> None:
    passwords_of(credentials)
    assert credentials.authenticate(user, password) is None


def test_an_empty_password_never_fits_an_unknown_user(credentials: RegistryCredentials) -> None:
    assert credentials.authenticate("nobody", "") is None


def test_a_name_that_no_repository_can_have_has_no_admin(credentials: RegistryCredentials) -> None:
    with pytest.raises(Invalid):
        credentials.admin("no/../path")


def test_a_token_says_what_it_allows_until_it_expires(credentials: RegistryCredentials, clock: Clock) -> None:
    token = credentials.issue("device/1", [Scope.of("demo/digits", "pull")], 60)
    principal = credentials.verify(token)
    assert principal is not None
    assert principal.subject == "device/1"
    assert principal.may("pull", "demo/digits")
    assert not principal.may("push", "demo/digits")
    assert not principal.may("pull", "demo/other")
    for user in ("device/1", "token"):
        assert credentials.authenticate(user, token) == principal
    assert credentials.authenticate("device/2", token) is None
    clock.now += 60
    with pytest.raises(TokenExpired):
        credentials.verify(token)
    with pytest.raises(TokenExpired):
        credentials.authenticate("token", token)


def test_a_token_got_with_a_token_ends_with_it(credentials: RegistryCredentials, clock: Clock) -> None:
    principal = credentials.verify(credentials.issue("device/1", [Scope.of("demo/*", "pull")], 60))
    assert principal is not None
    clock.now += 59
    longer = credentials.grant(principal.narrowed([]), 300)
    assert credentials.verify(longer) is not None
    clock.now += 1
    with pytest.raises(TokenExpired):
        credentials.verify(longer)


def test_an_altered_token_is_nobodys(credentials: RegistryCredentials, clock: Clock) -> None:
    token = credentials.issue("device/1", [Scope.of("demo/digits", "pull")], 60)
    for position in range(5, len(token)):
        other = "A" if token[position] != "A" else "B"
        altered = token[:position] + other + token[position + 1 :]
        assert credentials.verify(altered) is None or altered[-1] != token[-1]
    forged = make_token(b"another key", Principal("x", (Scope.of("*", "pull"),)), clock() + 60)
    assert credentials.verify(forged) is None


def test_a_token_got_with_a_password_ends_with_that_password(credentials: RegistryCredentials) -> None:
    tokens = {}
    for name, password in zip(("password", "password2"), passwords_of(credentials), strict=True):
        principal = credentials.authenticate("demo", password)
        assert principal is not None
        tokens[name] = credentials.grant(principal, 300)
    credentials.regenerate("demo", "password")
    assert credentials.verify(tokens["password"]) is None
    assert credentials.verify(tokens["password2"]) is not None
    credentials.set_admin_enabled("demo", False)
    assert credentials.verify(tokens["password2"]) is None


def test_wrong_passwords_are_slowed_and_the_right_one_is_never_refused(credentials: RegistryCredentials) -> None:
    first, _ = passwords_of(credentials)
    for _ in range(5):
        assert credentials.authenticate("demo", "wrong", "192.0.2.1") is None
    for expected in (1, 2, 4):
        with pytest.raises(Slowed) as slowed:
            credentials.authenticate("demo", "wrong", "192.0.2.1")
        assert slowed.value.retry_after_s == expected
    # A stranger at the same address (a relay) must not lock the owner out, nor one at another.
    assert credentials.authenticate("demo", first, "192.0.2.1") is not None
    assert credentials.authenticate("demo", first, "192.0.2.2") is not None


def test_tokens_of_the_server_are_asked_of_the_server(engine: Engine) -> None:
    owner = Principal("owner", (Scope.of("*", "pull"),))
    credentials = RegistryCredentials(engine, seal, unseal, bearer=lambda token: owner if token == "api" else None)
    assert credentials.verify("api") == owner
    assert credentials.verify("other") is None
    assert credentials.authenticate("token", "api") == owner
    assert credentials.authenticate("demo", "api") is None


def test_a_named_token_that_expired_is_said_so_to_its_holder_alone(
    credentials: RegistryCredentials, clock: Clock
) -> None:
    issued = credentials.tokens.create("demo", "ci", [Scope.of("demo/*", "pull")], expires_at=clock.now + 60)
    clock.now += 60
    with pytest.raises(TokenExpired):
        credentials.authenticate("demo.ci", issued.password)
    assert credentials.authenticate("demo.ci", issued.password[:-1] + "?") is None
    credentials.tokens.set_enabled("demo", "ci", False)
    assert credentials.authenticate("demo.ci", issued.password) is None
