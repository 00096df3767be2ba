import pytest
from tests.registry.world import Clock

from sanderling.registry.access import throttle
from sanderling.registry.access.throttle import FREE_TRIES, MAX_WAIT_S, WIDE_TRIES, Slowed, Throttle


def wait_after(limits: Throttle, user: str = "demo", address: str = "192.0.2.1", times: int = 1) -> float:
    """Fail that often; return what the last failure costs."""
    wait = 0.0
    for _ in range(times):
        wait = 0.0
        try:
            limits.failed(user, address)
        except Slowed as slowed:
            wait = slowed.retry_after_s
    return wait


def test_the_wait_doubles_up_to_a_bound(clock: Clock) -> None:
    limits = Throttle(clock)
    assert wait_after(limits, times=FREE_TRIES) == 0
    waits = [wait_after(limits) for _ in range(9)]
    assert waits == [1, 2, 4, 8, 16, 32, MAX_WAIT_S, MAX_WAIT_S, MAX_WAIT_S]


def test_success_and_quiet_clear_the_count(clock: Clock) -> None:
    limits = Throttle(clock)
    wait_after(limits, times=FREE_TRIES)
    limits.succeeded("demo", "192.0.2.1")
    assert wait_after(limits, times=FREE_TRIES) == 0
    clock.now += throttle.FORGET_AFTER_S + 1
    assert wait_after(limits) == 0


def test_guessing_at_one_user_from_many_addresses_is_slowed(clock: Clock) -> None:
    limits = Throttle(clock)
    waits = [wait_after(limits, address=f"192.0.2.{number}") for number in range(WIDE_TRIES + 2)]
    assert waits[:WIDE_TRIES] == [0] * WIDE_TRIES
    assert waits[WIDE_TRIES:] == [1, 2]
    assert wait_after(limits, user="other") == 0


def test_trying_many_users_from_one_address_is_slowed(clock: Clock) -> None:
    limits = Throttle(clock)
    waits = [wait_after(limits, user=f"user{number}") for number in range(WIDE_TRIES + 2)]
    assert waits[WIDE_TRIES:] == [1, 2]
    assert wait_after(limits, user="demo", address="192.0.2.9") == 0


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_ENTRIES", 10)
    limits = Throttle(clock)
    for number in range(100):
        wait_after(limits, user=f"user{number}", address=f"192.0.2.{number}")
    assert [len(counts._failures) for counts in (limits._pairs, limits._users, limits._addresses)] == [10, 10, 10]


def test_a_very_long_attack_does_not_overflow(clock: Clock) -> None:
    assert wait_after(Throttle(clock), times=3000) == MAX_WAIT_S
