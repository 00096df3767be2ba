import pytest
from tests.registry.world import Clock

from sanderling.registry.errors import ManifestNotFound, UpstreamLimited, UpstreamUnavailable
from sanderling.registry.upstream.troubles import (
    BACKOFF_S,
    LIMIT_S,
    MAX_BACKOFF_S,
    MAX_LIMIT_S,
    NEGATIVE_S,
    Troubles,
)


def down() -> UpstreamUnavailable:
    return UpstreamUnavailable("hub", "docker.io", "it is away")


def is_left_alone(troubles: Troubles) -> bool:
    try:
        troubles.check("hub", None)
    except UpstreamUnavailable:
        return True
    return False


def test_an_answer_is_remembered_for_a_while(clock: Clock) -> None:
    troubles = Troubles(clock)
    troubles.answered("question", ManifestNotFound("hub/a", "1"))
    with pytest.raises(ManifestNotFound):
        troubles.check("hub", "question")
    troubles.check("hub", "another")
    clock.now += NEGATIVE_S
    troubles.check("hub", "question")


def test_an_upstream_is_left_alone_longer_each_time_and_forgiven_when_it_answers(clock: Clock) -> None:
    troubles, waits = Troubles(clock), []
    for _ in range(9):
        troubles.failed("hub", down())
        began = clock.now
        while is_left_alone(troubles):
            clock.now += 1
        waits.append(clock.now - began)
    assert waits[:4] == [BACKOFF_S, BACKOFF_S * 2, BACKOFF_S * 4, BACKOFF_S * 8]
    assert waits[-1] == MAX_BACKOFF_S
    troubles.succeeded("hub")
    troubles.failed("hub", down())
    clock.now += BACKOFF_S
    assert not is_left_alone(troubles)


def test_failures_at_the_same_time_are_one(clock: Clock) -> None:
    troubles = Troubles(clock)
    for _ in range(10):
        troubles.failed("hub", down())
    clock.now += BACKOFF_S
    assert not is_left_alone(troubles)


@pytest.mark.parametrize(("asked", "wait"), [(7.0, 7.0), (0.0, LIMIT_S), (1e9, MAX_LIMIT_S)])
def test_a_limit_is_kept_for_as_long_as_it_asks(clock: Clock, asked: float, wait: float) -> None:
    troubles = Troubles(clock)
    troubles.failed("hub", UpstreamLimited("hub", "docker.io", "enough", asked))
    clock.now += wait - 1
    with pytest.raises(UpstreamLimited) as caught:
        troubles.check("hub", None)
    assert caught.value.retry_after_s == 1
    clock.now += 1
    assert not is_left_alone(troubles)


def test_the_memory_is_bounded(clock: Clock) -> None:
    troubles = Troubles(clock)
    for number in range(20_000):
        troubles.answered(number, ManifestNotFound("hub/a", "1"))
    troubles.check("hub", 0)
    with pytest.raises(ManifestNotFound):
        troubles.check("hub", 19_999)
