import pytest

from sanderling.edge.engines import Container, State
from sanderling.edge.plan import (
    MAX_RESTARTS,
    Create,
    Pull,
    Remove,
    Restarts,
    Start,
    Step,
    Stop,
    backoff_s,
    fingerprint,
    plan,
)
from sanderling.iot import ModuleSpec

NOW = 100_000.0


def spec(name: str = "m", image: str = "r/i:1", **more: object) -> ModuleSpec:
    return ModuleSpec(name=name, image=image, **more)  # type: ignore[arg-type]


def container(of: ModuleSpec, state: State = State.RUNNING, **more: object) -> Container:
    return Container(of.name, state, fingerprint(of), of.image, "sha256:x", **more)  # type: ignore[arg-type]


def steps(
    desired: list[ModuleSpec],
    actual: list[Container] | None = None,
    held: tuple[str, ...] = ("r/i:1",),
    restarts: dict[str, Restarts] | None = None,
    now: float = NOW,
) -> list[Step]:
    return plan({s.name: s for s in desired}, {c.name: c for c in actual or []}, held, restarts or {}, now)


def test_a_new_module_is_pulled_first_and_created_when_its_image_is_whole() -> None:
    assert steps([spec()], held=()) == [Pull("m", "r/i:1")]
    assert steps([spec()]) == [Create("m"), Start("m")]


def test_a_device_that_is_as_it_should_be_has_nothing_to_do() -> None:
    assert steps([spec()], [container(spec())]) == []
    assert steps([], []) == []


def test_an_update_pulls_before_it_touches_what_runs() -> None:
    old, new = spec(), spec(image="r/i:2")
    assert steps([new], [container(old)]) == [Pull("m", "r/i:2")]
    assert steps([new], [container(old)], held=("r/i:2",)) == [Stop("m"), Remove("m"), Create("m"), Start("m")]


def test_a_crashed_old_module_is_restarted_while_its_update_cannot_be_pulled() -> None:
    old, new = spec(), spec(image="r/i:2")
    crashed = container(old, State.EXITED, exit_code=1, exited_at=NOW - 11)
    assert steps([new], [crashed]) == [Pull("m", "r/i:2"), Start("m", is_restart=True)]


def test_pulls_come_first_and_modules_in_startup_order() -> None:
    late, early, missing = spec("late", startup_order=9), spec("early", startup_order=1), spec("x", "r/none:1")
    assert steps([late, missing, early]) == [
        Pull("x", "r/none:1"),
        Create("early"),
        Start("early"),
        Create("late"),
        Start("late"),
    ]


def test_a_module_that_is_not_wanted_any_more_goes() -> None:
    assert steps([], [container(spec())]) == [Stop("m"), Remove("m")]


def test_status_restart_policy_and_order_need_no_new_container() -> None:
    changed = spec(status="stopped", restart_policy="never", startup_order=1)
    assert steps([changed], [container(spec())]) == [Stop("m")]
    assert steps([changed], [container(spec(), State.EXITED, exit_code=0)]) == []


@pytest.mark.parametrize("change", [{"version": "2"}, {"env": {"A": "1"}}, {"create_options": {"Cmd": ["x"]}}])
def test_what_the_process_sees_needs_a_new_container(change: dict[str, object]) -> None:
    assert Create("m") in steps([spec(**change)], [container(spec())])


def test_one_that_we_stopped_starts_at_once_when_wanted_again() -> None:
    stopped = container(spec(), State.EXITED, exit_code=137, exited_at=NOW)
    assert steps([spec(restart_policy="never")], [stopped], restarts={"m": Restarts(was_asked_to_stop=True)}) == [
        Start("m")
    ]


def test_one_that_was_created_and_never_started_starts_whatever_its_policy() -> None:
    assert steps([spec(restart_policy="never")], [container(spec(), State.CREATED)]) == [Start("m")]


@pytest.mark.parametrize(
    ("policy", "code", "restarted"),
    [
        ("always", 0, True),
        ("always", 1, True),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("on-unhealthy", 1, True),
        ("on-unhealthy", 0, False),
        ("never", 1, False),
    ],
)
def test_an_exit_is_answered_as_the_restart_policy_says(policy: str, code: int, restarted: bool) -> None:
    wanted = spec(restart_policy=policy)
    exited = container(wanted, State.EXITED, exit_code=code, exited_at=NOW - 10)
    assert steps([wanted], [exited]) == ([Start("m", is_restart=True)] if restarted else [])


def test_restarts_back_off_and_end() -> None:
    assert [backoff_s(n) for n in range(7)] == [10, 20, 40, 80, 160, 300, 300]
    exited = container(spec(), State.EXITED, exit_code=1, exited_at=NOW)
    counted = {"m": Restarts(count=2)}
    assert steps([spec()], [exited], restarts=counted, now=NOW + 39) == []
    assert steps([spec()], [exited], restarts=counted, now=NOW + 40) == [Start("m", is_restart=True)]
    assert steps([spec()], [exited], restarts={"m": Restarts(count=MAX_RESTARTS)}, now=NOW + 9999) == []


def test_ten_minutes_up_clear_the_counter() -> None:
    up = container(spec(), started_at=NOW)
    assert Restarts(count=5).settled(up, NOW + 599).count == 5
    assert Restarts(count=5).settled(up, NOW + 600).count == 0
    assert Restarts(count=5).settled(None, NOW + 600).count == 5
