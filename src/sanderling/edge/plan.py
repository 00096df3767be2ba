"""Says what to do next: pure, from what is wanted and what is there to a list of steps.

Rules:
- pulls come first, and nothing waits for them but the module they are for;
- a module keeps running in its old form until its new image is whole on the device;
- then, in startup order: stop, remove, create, start;
- one that exited is started again as its restart policy says, not before
  min(10 * 2^n, 300) seconds, n times at most 20; after ten minutes up it counts from zero.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from sanderling.edge.engines import Container, State
from sanderling.iot import ModuleSpec

MAX_RESTARTS = 20
_STEADY_S = 600.0
_LONGEST_S = 300.0


@dataclass(frozen=True, slots=True)
class Pull:
    """Fetch *image* for *module*, beside everything else."""

    module: str
    image: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the module."""

    module: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget the module's container."""

    module: str


@dataclass(frozen=True, slots=True)
class Create:
    """Create the module's container; its image is here."""

    module: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start the module; *is_restart* when it had exited by itself."""

    module: str
    is_restart: bool = False


Step = Pull | Stop | Remove | Create | Start


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often a module was started again, and whether we stopped it ourselves."""

    count: int = 0
    was_asked_to_stop: bool = False
    last_restart_at: float | None = None

    def settled(self, container: Container | None, now: float) -> "Restarts":
        """Return the counter, cleared when the module has been up for ten minutes."""
        up = container is not None and container.state is State.RUNNING and container.started_at is not None
        if up and self.count and container is not None and now - (container.started_at or now) >= _STEADY_S:
            return replace(self, count=0)
        return self


def fingerprint(spec: ModuleSpec) -> str:
    """Return what stands for all that needs a new container when it changes.

    Status, restart policy, startup order and pull policy do not.
    """
    what = [spec.image, spec.version, spec.type, spec.create_options, dict(spec.env)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def plan(
    desired: Mapping[str, ModuleSpec],
    actual: Mapping[str, Container],
    held: Collection[str],
    restarts: Mapping[str, Restarts],
    now: float,
) -> list[Step]:
    """Return the steps that turn *actual* into *desired*; empty when all is as it should be, or must wait.

    *held* are the images that are whole on the device. The steps of one module
    depend on each other; modules do not.
    """
    pulls: list[Step] = []
    steps: list[Step] = []
    for name in sorted(actual.keys() - desired.keys()):
        steps += [Stop(name), Remove(name)]
    for spec in sorted(desired.values(), key=lambda s: (s.startup_order, s.name)):
        container = actual.get(spec.name)
        is_current = container is not None and container.fingerprint == fingerprint(spec)
        is_running = container is not None and container.is_up
        if spec.image not in held and not (is_current and is_running):
            pulls.append(Pull(spec.name, spec.image))
        if container is not None and (is_current or spec.image not in held):
            steps += _keep(spec, container, restarts.get(spec.name, Restarts()), now)
        elif spec.image in held:
            steps += [Stop(spec.name), Remove(spec.name)] if container is not None else []
            steps.append(Create(spec.name))
            steps += [Start(spec.name)] if spec.status == "running" else []
    return [*pulls, *steps]


def _keep(spec: ModuleSpec, container: Container, restarts: Restarts, now: float) -> list[Step]:
    """Return what brings the status of a container that stays to the wanted one."""
    if spec.status != "running":
        return [Stop(spec.name)] if container.state is State.RUNNING else []
    if container.state is State.RUNNING:
        return []
    if container.state is State.CREATED or restarts.was_asked_to_stop:
        return [Start(spec.name)]
    due = restart_due(spec, container, restarts)
    return [Start(spec.name, is_restart=True)] if due is not None and now >= due else []


def restart_due(spec: ModuleSpec, container: Container, restarts: Restarts) -> float | None:
    """Return when an exited module is to be started again; None for never."""
    if container.state is not State.EXITED or spec.status != "running" or restarts.count >= MAX_RESTARTS:
        return None
    has_failed = container.exit_code != 0
    wanted = spec.restart_policy == "always" or (spec.restart_policy in ("on-failure", "on-unhealthy") and has_failed)
    if not wanted:
        return None
    return (container.exited_at or 0.0) + backoff_s(restarts.count)


def backoff_s(count: int) -> float:
    """Return how long to wait after the *count*-th failure in a row (0 is the first)."""
    return float(min(10 * 2 ** min(count, 10), _LONGEST_S))
