"""The build service: a queue with a bound, a worker process for each build, records in SQL, logs in files.

       create            claim               worker's result
    ──────────▶ queued ─────────▶ running ───────────────────▶ succeeded | failed
                  │  ▲               │ cancel
           cancel │  └── restart ────┤
                  ▼                  ▼
               cancelled         cancelled

A build that was running when the server stopped is queued again; when that
happens to it twice, it has failed. What a build needs is given as plain paths,
which must stay until it is finished.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, SanderlingError, Unavailable
from sanderling.image.check import check
from sanderling.image.events import Event, now_text
from sanderling.image.figures import size_text
from sanderling.image.gate.gate import MARK, GateSettings
from sanderling.image.layers.codec import Compression
from sanderling.image.push_target import PushTarget
from sanderling.image.recipe import ModelFiles, Recipe, SourceFile
from sanderling.image.service.build_log import BuildLog, read_all, read_page
from sanderling.image.service.build_process import BuildProcess
from sanderling.image.service.build_records import BuildRecords, ImageBuild, ImageNotFound, State, WrongState
from sanderling.image.service.record import OUTCOME, of_failure, steps_of
from sanderling.oci import Platform, is_repository
from sanderling.sandbox.processes import kill_marked

_log = logging.getLogger(__name__)

MAX_QUEUED = 100
MAX_ATTEMPTS = 2
MAX_WAIT_S = 60.0
TIME_LIMIT_S = 3600.0
STALE_AFTER_S = 24 * 3600.0  # older unfinished files belong to workers that were killed


class QueueFull(Unavailable):
    """As many builds wait as may wait."""

    def __init__(self, bound: int) -> None:
        super().__init__(f"{bound} builds wait already; try again when some are done")
        self.bound = bound


@dataclass(frozen=True, slots=True)
class BuildLogPage:
    """Part of a log: the events, the *after* for the next call, and the build's state when it was read."""

    events: tuple[Event, ...]
    next: int
    state: State

    def to_json(self) -> dict[str, Any]:
        """The page as the public API shows it."""
        return {"events": [event.to_json() for event in self.events], "next": self.next, "state": self.state}


class ImageBuilds:
    """Builds images for workspaces.

    *folder* holds ``WORKSPACE/NAME/VERSION/{spec.json,log.jsonl}``, *cache* what
    builds share; *push* says to which registry a workspace's images go, with
    fresh credentials; *signing_key* gives the private key (PEM) that they are signed
    with. Call `start` once, and `close` at the end; both are quick.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        cache: Path,
        push: Callable[[str], PushTarget],
        *,
        signing_key: Callable[[str], str] | None = None,
        workers: int = 1,
        time_limit_s: float = TIME_LIMIT_S,
        memory_bytes: int | None = None,
        max_queued: int = MAX_QUEUED,
        gate: GateSettings = GateSettings(),  # noqa: B008 - a value that never changes
        debian_mirror: str | None = None,
        debian_security_mirror: str | None = None,
    ) -> None:
        self._records = BuildRecords(engine)
        self._folder, self._cache, self._push = folder, cache, push
        self._signing_key = signing_key
        self._time_limit_s, self._max_queued = time_limit_s, max_queued
        self._machine = {
            "debianMirror": debian_mirror,
            "debianSecurityMirror": debian_security_mirror,
            "memoryBytes": memory_bytes,
            "gate": gate.to_json(),
        }
        self._changed = threading.Condition()
        self._running: dict[tuple[str, str, int], BuildProcess] = {}
        self._is_closing = False
        self._threads = [threading.Thread(target=self._work, name=f"build-{n}") for n in range(workers)]

    def start(self) -> None:
        """Take up what an earlier server left, and begin to build."""
        for store in ("downloads", "layers"):
            FileBlobs(self._cache / store).remove_stale(time.time() - STALE_AFTER_S)
        for build in self._records.list(state="running"):
            kill_marked(MARK, str(self._folder_of(build)))  # a worker whose server was killed may not be through yet
            if build.attempts >= MAX_ATTEMPTS:
                text = "the server stopped twice while this image was being built; build it again"
                self._finish(build, "failed", error_kind="unavailable", error=text)
            else:
                self._log(build).say("queue", "the server stopped meanwhile; the build begins again", "warning")
                self._records.change(build, ["running"], state="queued", started_at=None)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; a build that runs is ended and goes back to the queue for the next start."""
        with self._changed:
            self._is_closing = True
            running = list(self._running.values())
            self._changed.notify_all()
        for process in running:
            process.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def create(
        self,
        workspace: str,
        name: str,
        *,
        script: SourceFile,
        environment: Path | None = None,
        files: Sequence[SourceFile] = (),
        models: Sequence[ModelFiles] = (),
        platforms: Sequence[str] = ("linux/amd64",),
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str = "",
        schema: SourceFile | None = None,
        base: str | None = None,
        requirements: Path | None = None,
        wheels: Sequence[SourceFile] = (),
        compression: Compression = "gzip",
        sample_input: SourceFile | None = None,
        gate: bool = True,
        requested_by: str | None = None,
        dockerfile: Path | None = None,
        context: Sequence[SourceFile] = (),
    ) -> ImageBuild:
        """Queue a build; return its record, whose version is new.

        The input is checked first. Raises Invalid (ScriptInvalid,
        EnvironmentInvalid), NotFound for a file that is missing, and Unavailable
        when 100 builds wait already.
        """
        if not is_repository(f"{workspace}/{name}") or "/" in name:
            raise Invalid(f"{name!r} is no image name: lower-case letters, digits, '-', '_' and '.' are allowed")
        recipe = Recipe(
            image=f"{workspace}/{name}:0",
            script=script,
            environment=SourceFile("the environment file", environment) if environment else None,
            files=tuple(files),
            models=tuple(models),
            platforms=tuple(Platform.parse(text) for text in platforms),
            tags=dict(tags or {}),
            description=description,
            schema=schema,
            base=base,
            requirements=SourceFile("the requirements file", requirements) if requirements else None,
            wheels=tuple(wheels),
            compression=compression,
            sample_input=sample_input,
            gate=gate,
            dockerfile=SourceFile("the Dockerfile", dockerfile) if dockerfile else None,
            context=tuple(context),
        )
        check(recipe)
        if self._records.count_queued() >= self._max_queued:
            raise QueueFull(self._max_queued)
        version = self._records.next_version(workspace, name)
        recipe = replace(recipe, image=f"{workspace}/{name}:{version}")
        values = {
            "location": f"{self._push(workspace).shown}/{recipe.image}",
            "recipe": recipe.to_json(),
            "properties": dict(properties or {}),
        }
        record = {"requestedBy": requested_by} if requested_by else {}
        if not self._records.add(workspace, name, version, values, record, self._max_queued):
            raise QueueFull(self._max_queued)
        with self._changed:
            self._changed.notify_all()
        return self.get(workspace, name, version)

    def get(self, workspace: str, name: str, version: int | None = None) -> ImageBuild:
        """The image, its latest version when *version* is None. Raises ImageNotFound."""
        build = self._records.find(workspace, name, version)
        if build is None:
            raise ImageNotFound(workspace, name, version)
        return build

    def list(self, workspace: str, name: str | None = None) -> Sequence[ImageBuild]:
        """The images of a workspace, oldest first."""
        return self._records.list(workspace, name)

    def find_users(self, workspace: str, model: str, version: int) -> Sequence[ImageBuild]:
        """The images that have the model inside or will have it."""
        wanted = f"{model}:{version}"
        return [
            b for b in self._records.list(workspace) if wanted in b.models and b.state not in ("failed", "cancelled")
        ]

    def cancel(self, workspace: str, name: str, version: int) -> ImageBuild:
        """End a build that waits or runs. Raises ImageNotFound, WrongState when it has ended."""
        build = self.get(workspace, name, version)
        if build.is_finished:
            raise WrongState(build.id, build.state, "only a build that waits or runs can be cancelled")
        text = "cancelled on request"
        self._finish(build, "cancelled", expected=("queued", "running"), error_kind="cancelled", error=text)
        with self._changed:
            process = self._running.get((workspace, name, version))
        if process is not None:
            process.stop()
        return self.get(workspace, name, version)

    def delete(self, workspace: str, name: str, version: int) -> None:
        """Remove the record and the log; the version does not return. Raises ImageNotFound, WrongState."""
        build = self.get(workspace, name, version)
        if not self._records.remove(build):
            raise WrongState(build.id, build.state, "cancel it before you delete it")
        shutil.rmtree(self._folder_of(build), ignore_errors=True)

    def read_log(self, workspace: str, name: str, version: int, after: int = 0, wait_s: float = 0) -> BuildLogPage:
        """Events after number *after*; when there are none yet, wait for them up to *wait_s* (at most 60 s).

        A finished build does not make wait. Raises ImageNotFound.
        """
        deadline = time.monotonic() + min(max(wait_s, 0.0), MAX_WAIT_S)
        while True:
            # The state is read first: when it says finished, the events are all there.
            build = self.get(workspace, name, version)
            page = read_page(self._folder_of(build), after)
            left = deadline - time.monotonic()
            if page.events or build.is_finished or left <= 0 or self._is_closing:
                return BuildLogPage(page.events, page.next, build.state)
            with self._changed:
                self._changed.wait(min(left, 1.0))

    def _work(self) -> None:
        """What each of the worker threads does until `close`."""
        while not self._is_closing:
            try:
                if self._take_next():
                    continue
            except Exception:  # noqa: BLE001 - a database that is away for a moment must not end the queue
                _log.exception("the build queue could not go on; trying again")
            with self._changed:
                if not self._is_closing:
                    self._changed.wait(2.0)

    def _take_next(self) -> bool:
        """Run the oldest build that waits; say whether there was one."""
        build = next(iter(self._records.list(state="queued")), None)
        if build is None:
            return False
        claimed = {"state": "running", "started_at": now_text(), "attempts": build.attempts + 1}
        if self._records.change(build, ["queued"], **claimed):
            try:
                self._run(self.get(build.workspace, build.name, build.version))
            except Exception:
                text = "an error of this server, which its log has, ended the build; build again"
                self._finish(build, "failed", error_kind="unavailable", error=text)
                raise
        return True

    def _run(self, build: ImageBuild) -> None:
        key = (build.workspace, build.name, build.version)
        log = self._log(build)
        try:
            target = replace(self._push(build.workspace), repository=f"{key[0]}/{key[1]}", tag=str(key[2]))
            spec = {
                "recipe": dict(build.recipe),
                "cache": str(self._cache),
                "output": {"push": target.to_json()},
                "supervised": True,
                **self._machine,
            }
            process = BuildProcess(self._folder_of(build), spec, self._secrets(build, target), self._time_limit_s)
            with self._changed:
                self._running[key] = process
                is_wanted = not self._is_closing
            if self.get(*key).state != "running" or not is_wanted:
                process.stop()
            answer = process.run(log.append)
        except (SanderlingError, OSError) as e:
            answer = {"error": {"kind": "unavailable", "message": str(e)}}
            process = None
        finally:
            with self._changed:
                self._running.pop(key, None)
        self._settle(build, answer, process is not None and process.is_late)

    def _secrets(self, build: ImageBuild, target: PushTarget) -> dict[str, str]:
        """What the worker gets on its standard input, and nowhere else."""
        if self._signing_key is None:
            return target.secrets()
        return target.secrets() | {"signingKey": self._signing_key(build.workspace)}

    def _settle(self, build: ImageBuild, answer: Mapping[str, Any], is_late: bool) -> None:
        """Write down how the build ended."""
        result = answer.get("result")
        if result is not None:
            size = size_text(result["sizeBytes"])
            self._log(build).say("done", f"{build.location} ({size}, {result['digest']}) in {result['seconds']:.1f} s")
            values = {"digest": result["digest"], "size_bytes": result["sizeBytes"], "layers": result["layers"]}
            facts = {name: result[name] for name in OUTCOME if name in result}
            self._records.note(build, steps=steps_of(read_all(self._folder_of(build))), **facts)
            self._finish(build, "succeeded", **values)
        elif is_late:
            text = f"the build took longer than {self._time_limit_s:.0f} s and was ended"
            self._records.note(build, **of_failure(read_all(self._folder_of(build)), None))
            self._finish(build, "failed", error_kind="unavailable", error=text)
        elif self._is_closing:
            back = {"state": "queued", "started_at": None, "attempts": build.attempts - 1}
            self._records.change(build, ["running"], **back)
        else:
            error = answer["error"]
            self._records.note(build, **of_failure(read_all(self._folder_of(build)), error.get("culprit")))
            self._finish(build, "failed", error_kind=error["kind"], error=error["message"])

    def _finish(
        self, build: ImageBuild, state: State, *, expected: Sequence[State] = ("running",), **values: Any
    ) -> None:
        if values.get("error"):
            self._log(build).say(state, values["error"], "error" if state == "failed" else "warning")
        self._records.change(build, expected, state=state, finished_at=now_text(), **values)
        with self._changed:
            self._changed.notify_all()

    def _log(self, build: ImageBuild) -> BuildLog:
        return BuildLog(self._folder_of(build), self._changed)

    def _folder_of(self, build: ImageBuild) -> Path:
        return self._folder / build.workspace / build.name / str(build.version)
