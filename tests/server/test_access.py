from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sanderling.errors import Denied
from sanderling.server.access import Access, AttemptLimit, TooManyAttempts, Unauthenticated
from sanderling.server.database import open_database


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(tmp_path / "test.db")
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(engine: Engine, clock: Clock) -> Access:
    return Access(engine, clock)


def test_the_owners_token_is_kept_in_its_file_and_nowhere_else(access: Access, tmp_path: Path) -> None:
    file = tmp_path / "owner-token"
    token = access.ensure_owner_token(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert access.ensure_owner_token(file) == token
    assert access.authenticate(token).is_owner
    assert token.encode() not in (tmp_path / "test.db").read_bytes() + (tmp_path / "test.db-wal").read_bytes()


def test_a_lost_or_changed_owner_token_is_replaced_and_the_old_one_ends(access: Access, tmp_path: Path) -> None:
    file = tmp_path / "owner-token"
    first = access.ensure_owner_token(file)
    file.unlink()
    second = access.ensure_owner_token(file)
    file.write_text("something else")
    third = access.ensure_owner_token(file)
    assert len({first, second, third}) == 3
    assert access.authenticate(third).is_owner
    for ended in (first, second, "something else", ""):
        with pytest.raises(Unauthenticated):
            access.authenticate(ended)


def test_a_workspace_token_in_the_owners_file_does_not_make_its_holder_owner(access: Access, tmp_path: Path) -> None:
    token = access.create_workspace_token("demo").secret
    (tmp_path / "owner-token").write_text(token)
    assert access.ensure_owner_token(tmp_path / "owner-token") != token


def test_a_workspace_token_is_for_that_workspace(access: Access) -> None:
    caller = access.authenticate(access.create_workspace_token("demo").secret)
    caller.require_workspace("demo")
    with pytest.raises(Denied, match="'demo' and not for 'other'"):
        caller.require_workspace("other")
    with pytest.raises(Denied, match="only the owner"):
        caller.require_owner("do this")


def test_a_code_signs_in_once_even_when_many_come_at_once(access: Access) -> None:
    code = access.create_sign_in_code().secret

    def attempt(_: int) -> bool:
        try:
            access.sign_in(code)
        except Unauthenticated:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 1


def test_a_code_ends_after_fifteen_minutes(access: Access, clock: Clock) -> None:
    code = access.create_sign_in_code().secret
    clock.now += timedelta(minutes=15)
    with pytest.raises(Unauthenticated, match="ended"):
        access.sign_in(code)


def test_a_session_has_the_rights_of_who_made_the_code_and_ends(access: Access, clock: Clock) -> None:
    maker = access.authenticate(access.create_workspace_token("demo").secret)
    session = access.sign_in(access.create_sign_in_code(maker).secret)
    assert access.authenticate(session.secret).workspace == "demo"
    clock.now += timedelta(hours=11, minutes=59)
    access.authenticate(session.secret)
    clock.now += timedelta(minutes=1)
    with pytest.raises(Unauthenticated):
        access.authenticate(session.secret)


def test_a_session_can_be_ended_at_once(access: Access) -> None:
    session = access.sign_in(access.create_sign_in_code().secret).secret
    access.revoke(session)
    access.revoke(session)
    with pytest.raises(Unauthenticated):
        access.authenticate(session)


def test_an_address_that_guesses_has_to_wait_and_others_do_not(clock: Clock) -> None:
    limit = AttemptLimit(clock, attempts=3, window_s=60, addresses=2)
    for _ in range(3):
        limit.check("a")
        limit.failed("a")
        clock.now += timedelta(seconds=5)
    with pytest.raises(TooManyAttempts, match="45 seconds"):
        limit.check("a")
    limit.check("b")
    clock.now += timedelta(seconds=46)
    limit.check("a")


def test_the_memory_of_failures_is_bounded(clock: Clock) -> None:
    limit = AttemptLimit(clock, attempts=1, addresses=2)
    for address in ("a", "b", "c"):
        limit.failed(address)
    limit.check("a")
    with pytest.raises(TooManyAttempts):
        limit.check("c")
