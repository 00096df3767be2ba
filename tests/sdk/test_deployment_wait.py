from dataclasses import replace
from typing import Any

import pytest

from sanderling import Deployment, Device, Workspace
from sanderling.errors import Unavailable
from sanderling.sdk.deployment_wait import PATIENCE_S, DeploymentFailed, _Trouble, wait_for_modules
from sanderling.sdk.reports import ModuleState

STATE = ModuleState("m", False, "running", "backoff", None, None, "no room", "i:1", "i:1", None, 1, 0, None)


def test_the_same_trouble_for_a_minute_is_a_failure() -> None:
    trouble = _Trouble("d")
    trouble.check([STATE], 0)
    trouble.check([STATE], PATIENCE_S)
    with pytest.raises(DeploymentFailed, match="module 'm' is in backoff"):
        trouble.check([STATE], PATIENCE_S + 1)


def test_trouble_that_changes_is_given_time_again() -> None:
    trouble = _Trouble("d")
    trouble.check([STATE], 0)
    trouble.check([replace(STATE, description="other")], 50)
    trouble.check([replace(STATE, description="other")], 100)
    trouble.check([replace(STATE, status="running")], 105)
    trouble.check([STATE], 106)


def test_a_module_that_has_failed_for_good_is_a_failure_at_once() -> None:
    with pytest.raises(DeploymentFailed, match="no room"):
        _Trouble("d").check([replace(STATE, status="failed")], 0)
    _Trouble("d").check([replace(STATE, status="failed", image="older:1")], 0)


@pytest.fixture
def device(workspace: Workspace) -> Any:
    device = Device.create(workspace, f"d-{workspace.name}")
    yield device
    device.delete()


def test_a_device_that_says_nothing_is_waited_for_only_so_long(device: Device) -> None:
    plan = Deployment("registry.example/m:1")
    plan.apply(device)
    seen: list[Any] = []
    with pytest.raises(Unavailable, match="m not reported yet; it is not connected"):
        wait_for_modules(plan.manifest, device, seen.append, timeout_s=0.1)
    assert [state.name for state in seen[0]] == ["m"]
