import pytest
from tests.registry.world import Clock

from sanderling.registry.access import throttle
from sanderling.registry.access.throttle import FREE_TRIES, MAX_WAIT_S, Slowed, Throttle


def fail(limits: Throttle, times: int) -> None:
    for _ in range(times):
        limits.failed("k")


def test_the_wait_doubles_up_to_a_bound(clock: Clock) -> None:
    limits = Throttle(clock)
    fail(limits, FREE_TRIES - 1)
    limits.check("k")
    waits = []
    for _ in range(10):
        limits.failed("k")
        with pytest.raises(Slowed) as slowed:
            limits.check("k")
        waits.append(slowed.value.retry_after_s)
    assert waits == [1, 2, 4, 8, 16, 32, MAX_WAIT_S, MAX_WAIT_S, MAX_WAIT_S, MAX_WAIT_S]
    clock.now += MAX_WAIT_S
    limits.check("k")


def test_success_and_quiet_clear_the_count(clock: Clock) -> None:
    limits = Throttle(clock)
    fail(limits, FREE_TRIES)
    limits.succeeded("k")
    limits.check("k")
    fail(limits, FREE_TRIES)
    clock.now += throttle.FORGET_AFTER_S + 1
    limits.failed("k")
    limits.check("k")


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_ENTRIES", 10)
    limits = Throttle(clock)
    for number in range(100):
        limits.failed(number)
    assert len(limits._failures) == 10


def test_a_very_long_attack_does_not_overflow(clock: Clock) -> None:
    limits = Throttle(clock)
    fail(limits, 3000)
    with pytest.raises(Slowed):
        limits.check("k")
