"""Waiting until a device runs what it was given, or has said why it cannot.

A device retries what may work later, such as a pull that was cut. So a failure
counts only when the device says that the deployment itself is wrong, when a
module has failed for good, or when it has said the same for a minute.
"""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any

from sanderling.errors import SanderlingError, Unavailable
from sanderling.iot import DeploymentManifest
from sanderling.sdk.device import Device
from sanderling.sdk.hints import hinted
from sanderling.sdk.reports import ModuleState, desired_status_in, module_states_in

POLL_S = 0.5
PATIENCE_S = 60.0
# What no later attempt can mend: a configuration that is malformed, of an unknown schema, or empty.
REFUSALS = frozenset({400, 412, 417})
FAILED_FOR_GOOD = frozenset({"failed"})
RETRYING = frozenset({"backoff", "unhealthy", "dead"})


class DeploymentFailed(SanderlingError):
    """The device said that it cannot do what it was given."""

    def __init__(self, device_id: str, reason: str) -> None:
        super().__init__(f"device {device_id!r}: {reason}")
        self.device_id, self.reason = device_id, reason


def wait_for_modules(
    manifest: Mapping[str, Any],
    device: Device,
    on_change: Callable[[Sequence[ModuleState]], None] | None = None,
    timeout_s: float = 600.0,
) -> Sequence[ModuleState]:
    """Wait until *device* reports that every module of *manifest* is as wanted, and answers if it can be asked.

    Args:
        manifest: What was applied.
        device: The device.
        on_change: Called with the modules' states, first at once and then whenever one changes.
        timeout_s: Give up waiting after so long; the device goes on.

    Returns:
        The modules of the manifest, as reported.

    Raises:
        DeploymentFailed: The device refuses the deployment, a module has failed for good, or one
            has been retried for a minute with the same result.
        Unavailable: It is not there within `timeout_s`.
    """
    wanted = modules_of(manifest)
    deadline = monotonic() + timeout_s
    trouble = _Trouble(device.device_id)
    last: Sequence[ModuleState] | None = None
    while True:
        twin = device.agent_twin()
        version = int(twin.get("desired", {}).get("$version") or 0)
        verdict = desired_status_in(twin)
        states = [state for state in module_states_in(twin) if state.name in wanted and not state.is_system]
        if states != last:
            last = states
            if on_change:
                on_change(states)
        if verdict.version >= version:
            if verdict.code in REFUSALS:
                raise DeploymentFailed(device.device_id, verdict.description or f"refused with code {verdict.code}")
            if len(states) == len(wanted) and all(_is_as_wanted(state) for state in states):
                return states
            trouble.check(states, monotonic())
        if monotonic() > deadline:
            raise hinted(Unavailable(_late(device, states, timeout_s)), f"sanderling device modules {device.device_id}")
        sleep(POLL_S)


def modules_of(manifest: Mapping[str, Any]) -> set[str]:
    """The names of the modules that *manifest* wants, without the edge runtime's own."""
    return set(DeploymentManifest.parse(manifest).images())


class _Trouble:
    """Remembers since when each module is being retried for the same reason."""

    def __init__(self, device_id: str) -> None:
        self._device_id = device_id
        self._since: dict[tuple[str, str], float] = {}

    def check(self, states: Sequence[ModuleState], now: float) -> None:
        """Raise DeploymentFailed when a module has failed for good, or has not got further for too long."""
        retried = {(state.name, state.description) for state in states if state.status in RETRYING}
        self._since = {key: self._since.get(key, now) for key in retried}
        for state in states:
            for_good = state.status in FAILED_FOR_GOOD and state.image == state.desired_image
            since = self._since.get((state.name, state.description), now)
            if for_good or now - since > PATIENCE_S:
                reason = f"module {state.name!r} is in {state.status}{_because(state)}"
                error = DeploymentFailed(self._device_id, reason)
                raise hinted(error, f"sanderling device modules {self._device_id}, which goes on trying")


def _is_as_wanted(state: ModuleState) -> bool:
    is_there = state.image == state.desired_image and state.status == (state.desired_status or "running")
    return is_there and not (state.status == "running" and state.is_ready is False)


def _late(device: Device, states: Sequence[ModuleState], timeout_s: float) -> str:
    found = ", ".join(f"{s.name} {s.status or 'not reported yet'}{_because(s)}" for s in states)
    link = "" if device.get(device.workspace, device.device_id).is_connected else "; it is not connected"
    return f"device {device.device_id!r} is not there after {timeout_s:.0f} s: {found or 'no modules'}{link}"


def _because(state: ModuleState) -> str:
    return f" ({state.description})" if state.description else ""
