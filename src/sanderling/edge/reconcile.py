"""Brings the device to what is desired: read desired, read actual, plan, run, report; each turn from nothing.

Rules:
- wake-ups carry nothing, so lost and doubled ones cannot matter; a turn comes every five seconds anyway;
- a pull runs beside the loop and wakes it; crashed modules are restarted meanwhile;
- a module whose step failed waits alone: Unavailable backs off, Invalid waits for a new desired state;
- desired and actual are read apart: an engine that does not answer hides nothing of what is desired.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from sanderling.edge.content import ContentStore
from sanderling.edge.desired import DesiredState
from sanderling.edge.engines import Container, ContainerEngine, ContainerSpec, HeldImage, State
from sanderling.edge.plan import (
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
from sanderling.edge.pull import Progress, Puller, explain
from sanderling.edge.readiness import Readiness
from sanderling.edge.report import Trouble, module_report
from sanderling.errors import Invalid, SanderlingError, Unavailable
from sanderling.iot import ModuleSpec

_log = logging.getLogger(__name__)
_EVERY_S = 5.0
_EVERY_WHILE_STARTING_S = 0.5
_EVERY_WHILE_PULLING_S = 1.0

Json = dict[str, Any]


class ModuleSurroundings(Protocol):
    """What a module needs besides its image."""

    async def prepare(self, module_id: str) -> tuple[Mapping[str, str], Path]:
        """Return our variables for the module and the folder of its workload socket. Raises `Unavailable`."""
        ...

    async def forget(self, module_id: str) -> None:
        """The module is gone."""
        ...


class Reconciler:
    """The loop. `wake` it when something may have changed; it calls *report* with the state of all modules."""

    def __init__(
        self,
        desired: DesiredState,
        engine: ContainerEngine,
        content: ContentStore,
        puller: Puller,
        surroundings: ModuleSurroundings,
        report: Callable[[Mapping[str, Json], Json], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._desired = desired
        self._engine = engine
        self._content = content
        self._puller = puller
        self._surroundings = surroundings
        self._report = report
        self._clock = clock
        self._wake = asyncio.Event()
        self._restarts: dict[str, Restarts] = {}
        self._troubles: dict[str, Trouble] = {}
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, Progress] = {}
        self._notes: dict[str, tuple[float, str]] = {}
        self._readiness = Readiness()
        self._ready: dict[str, bool] = {}
        self._generation = self._tidied = -1

    def wake(self) -> None:
        """Say that something may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as pulls:
            while True:
                self._wake.clear()
                wait_s = _EVERY_WHILE_STARTING_S
                try:
                    await self.turn(pulls)
                    if all(self._ready.values()):
                        wait_s = _EVERY_WHILE_PULLING_S if self._pulls else _EVERY_S
                except SanderlingError as e:
                    _log.warning("this turn failed and is repeated: %s", e)
                    self._report({}, {"code": 500, "description": e.message})
                except Exception:  # noqa: BLE001 - whatever it is, the modules and their messages go on
                    _log.exception("this turn failed and is repeated")
                    self._report({}, {"code": 500, "description": "the device's log says what failed"})
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def turn(self, pulls: asyncio.TaskGroup) -> None:
        """Do one turn. Raises `Unavailable` when the engine does not answer."""
        config = self._desired.config
        if config is None:
            self._report({}, self._desired.status)
            return
        if self._generation != self._desired.generation:
            self._generation = self._desired.generation
            self._troubles.clear()
        actual = await self._engine.containers()
        held = await self._creatable({spec.image for spec in config.modules.values()})
        now = self._clock()
        for name in config.modules:
            self._restarts[name] = self._restarts.get(name, Restarts()).settled(actual.get(name), now)
        steps = plan(config.modules, actual, held.keys(), self._restarts, now)
        for step in steps:
            if isinstance(step, Pull):
                self._begin_pull(pulls, config.modules[step.module])
        self._send_report(actual)
        await self._surround(name for name, container in actual.items() if name in config.modules and container.is_up)
        changed = await self._run_steps([step for step in steps if not isinstance(step, Pull)], config.modules, held)
        if changed:
            actual = await self._engine.containers()
            self._wake.set()
        await self._note_exits(actual)
        self._ready = await self._readiness.look(config.modules, actual, held)
        self._send_report(actual)
        if not steps and not self._pulls and not self._troubles and self._tidied != self._generation:
            self._tidied = self._generation
            await self._tidy([spec.image for spec in config.modules.values()], actual)

    async def _creatable(self, images: set[str]) -> dict[str, HeldImage]:
        """Return the images that can be created from: fetched, verified, and laid out by the engine."""
        found = {}
        for image in images - self._pulls.keys():
            held = await asyncio.to_thread(self._content.find_image, image)
            if held is not None and await self._engine.has(held):
                found[image] = held
        return found

    async def _run_steps(
        self, steps: Sequence[Step], modules: Mapping[str, ModuleSpec], held: Mapping[str, HeldImage]
    ) -> bool:
        """Run *steps*; a module's failed step ends its steps, not the others'. Return whether anything was done."""
        failed: set[str] = set()
        changed = False
        for step in steps:
            name = step.module
            trouble = self._troubles.get(name)
            if name in failed or (trouble is not None and not trouble.is_pull and trouble.waits(self._clock())):
                failed.add(name)
                continue
            try:
                await self._run_step(step, modules.get(name), held)
            except (SanderlingError, OSError) as caught:
                e = _ours(caught)
                failed.add(name)
                self._troubled(name, e, e.message if repr(name) in e.message else f"module {name!r}: {e.message}")
            else:
                changed = True
                if isinstance(step, Start) and trouble is not None and not trouble.is_pull:
                    self._troubles.pop(name, None)
        return changed

    async def _run_step(self, step: Step, spec: ModuleSpec | None, held: Mapping[str, HeldImage]) -> None:
        name = step.module
        _log.info("%s", step)
        match step:
            case Stop():
                await self._engine.stop(name)
                self._restarts[name] = replace(self._restarts.get(name, Restarts()), was_asked_to_stop=True)
            case Remove():
                await self._engine.remove(name)
                self._restarts.pop(name, None)
                if spec is None:
                    self._troubles.pop(name, None)
                    await self._surroundings.forget(name)
            case Create():
                assert spec is not None
                await self._create(spec, held[spec.image])
            case Start(is_restart=is_restart):
                assert spec is not None
                await self._surroundings.prepare(name)
                restarts = self._restarts.get(name, Restarts())
                if is_restart:
                    restarts = replace(restarts, count=restarts.count + 1, last_restart_at=self._clock())
                self._restarts[name] = replace(restarts, was_asked_to_stop=False)
                await self._engine.start(name)

    async def _surround(self, names: Iterable[str]) -> None:
        """Serve modules that an earlier runtime started and that outlived it."""
        for name in names:
            try:
                await self._surroundings.prepare(name)
            except SanderlingError as e:
                _log.debug("module %r has to wait for its surroundings: %s", name, e)

    async def _create(self, spec: ModuleSpec, image: HeldImage) -> None:
        ours, workload = await self._surroundings.prepare(spec.name)
        await self._engine.create(
            ContainerSpec(
                name=spec.name,
                image=image,
                environment={**spec.env, **ours},
                create_options=spec.create_options,
                fingerprint=fingerprint(spec),
                workload_folder=workload,
            )
        )

    def _begin_pull(self, pulls: asyncio.TaskGroup, spec: ModuleSpec) -> None:
        trouble = self._troubles.get(spec.name)
        if trouble is not None and trouble.is_pull and trouble.waits(self._clock()):
            return
        if spec.pull_policy == "never":
            text = f"module {spec.name!r}: image {spec.image} is not on this device and imagePullPolicy is 'never'"
            self._troubles[spec.name] = Trouble(text, None, is_pull=True)
            return
        if spec.image not in self._pulls:
            self._pulls[spec.image] = pulls.create_task(self._pull(spec), name=f"pull of {spec.image}")

    async def _pull(self, spec: ModuleSpec) -> None:
        config = self._desired.config
        assert config is not None
        _log.info("pulling %s", spec.image)
        try:
            image = await self._puller.fetch(
                spec.image, config.registry_credentials, lambda progress: self._progress.update({spec.image: progress})
            )
            # Unpacked here, beside the loop, and with the diffIDs verified: before the old module is stopped.
            await self._engine.load(image)
        except (SanderlingError, OSError) as caught:
            e = _ours(caught)
            _log.warning("the pull of %s failed: %s", spec.image, e)
            latest = self._desired.config
            for module in (latest or config).modules.values():
                if module.image == spec.image:
                    self._troubled(module.name, e, explain(module.name, module.image, e), is_pull=True)
        else:
            _log.info("pulled %s (%s)", spec.image, image.digest)
            self._troubles = {name: trouble for name, trouble in self._troubles.items() if not trouble.is_pull}
        finally:
            self._pulls.pop(spec.image, None)
            self._progress.pop(spec.image, None)
            self._wake.set()

    def _troubled(self, name: str, error: SanderlingError, message: str, *, is_pull: bool = False) -> None:
        count = self._troubles[name].count + 1 if name in self._troubles else 1
        # What the registry refuses today may be pushed or allowed tomorrow: a pull is always tried again.
        is_final = isinstance(error, Invalid) and not is_pull
        retry_at = None if is_final else self._clock() + backoff_s(count - 1)
        self._troubles[name] = Trouble(message, retry_at, is_pull, count)
        _log.warning("%s", message)

    async def _note_exits(self, actual: Mapping[str, Container]) -> None:
        """Remember the last line that a failed module wrote, for its status."""
        for name, container in actual.items():
            at = container.exited_at or 0.0
            if container.state is not State.EXITED or not container.exit_code:
                self._notes.pop(name, None)
            elif self._notes.get(name, (None, ""))[0] != at:
                try:
                    lines = (await self._engine.logs(name, 2000)).decode(errors="replace").strip().splitlines()
                except SanderlingError:
                    lines = []
                self._notes[name] = (at, lines[-1][:300] if lines else "")

    def _send_report(self, actual: Mapping[str, Container]) -> None:
        config = self._desired.config
        assert config is not None
        modules = {}
        for name, spec in config.modules.items():
            modules[name] = module_report(
                spec,
                actual.get(name),
                self._restarts.get(name, Restarts()),
                self._troubles.get(name),
                self._notes.get(name, (0.0, ""))[1],
                is_ready=self._ready.get(name),
                pull=self._progress.get(spec.image, Progress()) if spec.image in self._pulls else None,
            )
        self._report(modules, self._status(modules))

    def _status(self, modules: Mapping[str, Json]) -> Json:
        if self._desired.status["code"] != 200:
            return self._desired.status
        troubles = [trouble.message for name, trouble in sorted(self._troubles.items()) if name in modules]
        return {"code": 500, "description": "; ".join(troubles)[:1000]} if troubles else self._desired.status

    async def _tidy(self, images: Sequence[str], actual: Mapping[str, Container]) -> None:
        """Free the disk of images that nobody wants; only when all that is wanted is here and runs."""
        in_use = [*images, *(container.image for container in actual.values())]
        configs = await asyncio.to_thread(self._content.keep_only, in_use)
        await self._engine.discard(configs)


def _ours(error: SanderlingError | OSError) -> SanderlingError:
    """Return *error* as one of ours: a disk that is full today may have room tomorrow."""
    return error if isinstance(error, SanderlingError) else Unavailable(f"the device's disk: {error.strerror or error}")
