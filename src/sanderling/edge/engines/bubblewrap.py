"""Runs modules with bubblewrap, where no container engine is installed.

Each container is a folder `containers/<module>/`: `container.json` says what it
is, `log` what it wrote. Running state is in memory only: a module dies with the
runtime (--die-with-parent), so after a start everything is `created`.

    runtime ── launcher (root only, becomes ▼) ── bwrap ── init of the namespace ── the module
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sanderling.edge.disk import find_json, private_folder, write_json
from sanderling.edge.engines import command
from sanderling.edge.engines.create_options import CreateOptions
from sanderling.edge.engines.logfile import BoundedLog, tail
from sanderling.edge.engines.port import Container, ContainerSpec, HeldImage, State
from sanderling.edge.engines.stage import MARK, Stage
from sanderling.edge.layout import Layout
from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.oci import Digest, ImageConfig
from sanderling.sandbox.processes import find_module_process, kill_marked, kill_sandbox
from sanderling.sandbox.rootfs import build_rootfs
from sanderling.sandbox.unpack import unpack_layer

_log = logging.getLogger(__name__)
_KILL_S = 10.0
_UNPACK_AT_ONCE = 2


@dataclass(slots=True)
class _Run:
    """One life of a container."""

    process: asyncio.subprocess.Process
    started_at: float
    log: BoundedLog
    watcher: asyncio.Task[None] | None = None
    exit_code: int | None = None
    exited_at: float | None = None


class BubblewrapEngine:
    """A `ContainerEngine` without a daemon. Make it with `open`, end it with `close`."""

    name = "bubblewrap"

    def __init__(self, layout: Layout, bwrap: Path, hosts: str, changed: Callable[[], None]) -> None:
        """Keep containers below *layout*; *hosts* are lines for /etc/hosts; call *changed* when a module exits."""
        self._layout = layout
        self._stage = Stage(bwrap, layout.root, hosts)
        left = kill_marked(MARK, str(layout.root))
        if left:
            _log.warning("%d processes that an earlier runtime had left are killed", left)
        self._changed = changed
        self._runs: dict[str, _Run] = {}
        self._loading = asyncio.Lock()

    async def load(self, image: HeldImage) -> None:
        """Unpack each layer that is not there yet, then merge them."""
        # Images share layers, so two pulls that end together must not unpack beside each other.
        async with self._loading:
            await asyncio.to_thread(self._load, image)

    async def has(self, image: HeldImage) -> bool:
        """Say whether the image's root is laid out."""
        return self._rootfs(image.config).is_dir()

    def _load(self, image: HeldImage) -> None:
        target = self._rootfs(image.config)
        if target.is_dir():
            return
        if len(image.config.diff_ids) != len(image.manifest.layers):
            raise Invalid(f"image {image.reference}: config and manifest differ in the number of layers")
        layers = [self._layout.folder("layers") / diff_id.hex for diff_id in image.config.diff_ids]
        missing = {
            folder: (diff_id, layer)
            for folder, diff_id, layer in zip(layers, image.config.diff_ids, image.manifest.layers, strict=True)
            if not folder.is_dir()
        }

        def unpack(folder: Path) -> tuple[Path, Path]:
            diff_id, layer = missing[folder]
            aside = folder.with_suffix(".new")
            shutil.rmtree(aside, ignore_errors=True)
            unpack_layer(image.path(layer.digest), layer.media_type, diff_id, aside)
            return aside, folder

        with ThreadPoolExecutor(_UNPACK_AT_ONCE, thread_name_prefix="unpack") as threads:
            fresh = list(threads.map(unpack, missing))
        if fresh:
            os.sync()  # a layer that has its name is whole, after a power cut too
        for aside, folder in fresh:
            aside.rename(folder)
        build_rootfs(layers, target)

    async def containers(self) -> dict[str, Container]:
        """Return the containers whose folders are there."""
        found = {}
        for folder in sorted(self._layout.folder("containers").iterdir()):
            record = find_json(folder / "container.json")
            if isinstance(record, dict):
                found[record["name"]] = self._container(record)
        return found

    def _container(self, record: dict[str, Any]) -> Container:
        run = self._runs.get(record["name"])
        state = State.CREATED if run is None else State.RUNNING if run.exited_at is None else State.EXITED
        return Container(
            name=record["name"],
            state=state,
            fingerprint=record["fingerprint"],
            image=record["image"],
            image_digest=record["manifest"],
            exit_code=run.exit_code if run else None,
            started_at=run.started_at if run else None,
            exited_at=run.exited_at if run else None,
        )

    async def create(self, spec: ContainerSpec) -> None:
        """Write the container's folder, after trying everything that could be refused at start."""
        options = CreateOptions.parse(spec.create_options)
        root = self._rootfs(spec.image.config)
        command.port_variables(spec.name, spec.image.config, options, 0)
        command.command_of(spec.name, spec.image.config, options, spec.environment, root)
        if options.unsupported:
            _log.warning("module %r: the bubblewrap engine ignores %s", spec.name, ", ".join(options.unsupported))
        record = {
            "name": spec.name,
            "image": spec.image.reference,
            "manifest": str(spec.image.manifest.digest),
            "config": spec.image.config.raw.decode(),
            "environment": dict(spec.environment),
            "createOptions": dict(spec.create_options),
            "fingerprint": spec.fingerprint,
            "workload": str(spec.workload_folder),
        }
        folder = private_folder(self._folder(spec.name))
        await asyncio.to_thread(write_json, folder / "container.json", record)

    async def start(self, name: str) -> None:
        """Start the module; returns when bubblewrap has been started, not when the module is ready."""
        run = self._runs.get(name)
        if run is not None and run.exited_at is None:
            return
        record = self._record(name)
        prepared = await asyncio.to_thread(self._stage.prepare, record, self._rootfs_of(record))
        try:
            # Started from the loop's own thread: the kernel ties PR_SET_PDEATHSIG to the thread that forks.
            process = await asyncio.create_subprocess_exec(
                *prepared.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=prepared.fds,
                env=self._stage.environ,
            )
        except OSError as e:
            raise Unavailable(f"module {name!r}: bubblewrap cannot be started: {e.strerror}") from e
        finally:
            prepared.close()
        run = _Run(process, time.time(), BoundedLog(self._folder(name)))
        self._runs[name] = run
        run.watcher = asyncio.create_task(self._watch(name, run), name=f"module {name}")

    async def _watch(self, name: str, run: _Run) -> None:
        """Copy what the module writes to its log until it ends, then note how."""
        assert run.process.stdout is not None
        try:
            while data := await run.process.stdout.read(65536):
                run.log.write(data)
        except OSError as e:
            _log.error("module %r: its log cannot be written: %s", name, e)
            while await run.process.stdout.read(65536):
                pass
        finally:
            code = await run.process.wait()
            run.exit_code = code if code >= 0 else 128 - code
            run.exited_at = time.time()
            run.log.close()
            self._changed()

    async def stop(self, name: str, timeout_s: float = 10.0) -> None:
        """Send the stop signal to the module itself, then kill the sandbox after *timeout_s*."""
        run = self._runs.get(name)
        if run is None or run.exited_at is not None or run.watcher is None:
            return
        pid = await asyncio.to_thread(find_module_process, run.process.pid)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self._stop_signal(name))
            if await _ended(run.watcher, timeout_s):
                return
            _log.warning("module %r did not stop within %g s and is killed", name, timeout_s)
        await asyncio.to_thread(kill_sandbox, run.process.pid)
        if not await _ended(run.watcher, _KILL_S):
            raise Unavailable(f"module {name!r} does not end although it was killed; is its disk or device hanging?")

    def _stop_signal(self, name: str) -> signal.Signals:
        text = ImageConfig.parse(self._record(name)["config"].encode()).stop_signal
        with contextlib.suppress(KeyError):
            return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
        return signal.SIGTERM

    async def remove(self, name: str) -> None:
        """Stop, then delete the container's folder with its log."""
        await self.stop(name)
        self._runs.pop(name, None)
        await asyncio.to_thread(shutil.rmtree, self._folder(name), True)

    async def logs(self, name: str, tail_bytes: int = 65536) -> bytes:
        """Return the end of the log; raise `NotFound`."""
        self._record(name)
        return await asyncio.to_thread(tail, self._folder(name), tail_bytes)

    async def discard(self, keep: set[Digest]) -> None:
        """Delete roots of other images, and layers that no kept image has."""
        await asyncio.to_thread(self._discard, {digest.hex for digest in keep})

    def _discard(self, keep: set[str]) -> None:
        for folder in self._layout.folder("rootfs").iterdir():
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)
        # Kept roots hold the files of their layers by hard links; a layer that only gone roots had is freed.
        for folder in self._layout.folder("layers").iterdir():
            if not _is_shared(folder / "fs"):
                shutil.rmtree(folder, ignore_errors=True)

    async def close(self) -> None:
        """Stop all modules at once."""
        names = list(self._runs)
        for name, result in zip(
            names, await asyncio.gather(*(self.stop(n) for n in names), return_exceptions=True), strict=True
        ):
            if isinstance(result, BaseException):
                _log.error("module %r could not be stopped: %s", name, result)

    def _rootfs(self, config: ImageConfig) -> Path:
        return self._layout.folder("rootfs") / config.digest.hex

    def _rootfs_of(self, record: dict[str, Any]) -> Path:
        return self._rootfs(ImageConfig.parse(record["config"].encode()))

    def _folder(self, name: str) -> Path:
        # Module names may hold dots and percent signs, but as a folder never be `.` or `..`.
        return self._layout.folder("containers") / quote(name, safe="").replace(".", "%2E")

    def _record(self, name: str) -> dict[str, Any]:
        record = find_json(self._folder(name) / "container.json")
        if not isinstance(record, dict):
            raise NotFound(f"module {name!r} has no container")
        return record


async def _ended(watcher: asyncio.Task[None], timeout_s: float) -> bool:
    done, _ = await asyncio.wait({watcher}, timeout=timeout_s)
    return bool(done)


def _is_shared(folder: Path) -> bool:
    """Say whether any file below *folder* has another name, in a root that is kept."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if os.lstat(Path(parent) / name).st_nlink > 1:
                return True
    return False
