"""Puts the device's state into the words of $edgeAgent's reported properties: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sanderling.edge.engines import Container, State
from sanderling.edge.plan import MAX_RESTARTS, Restarts, restart_due
from sanderling.edge.pull import Progress
from sanderling.iot import ModuleSpec

Json = dict[str, Any]
_MAX_DESCRIPTION = 1000


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the next step of a module failed, and when it is tried again (None: when something new is desired).

    *is_pull*: its new image could not be had; what runs goes on.
    """

    message: str
    retry_at: float | None
    is_pull: bool
    count: int = 1

    def waits(self, now: float) -> bool:
        """Say whether it is too early to try again."""
        return self.retry_at is None or self.retry_at > now


def module_report(
    spec: ModuleSpec,
    container: Container | None,
    restarts: Restarts,
    trouble: Trouble | None,
    note: str = "",
    *,
    is_ready: bool | None = None,
    pull: Progress | None = None,
) -> Json:
    """Return one entry of `modules`; *note* is added to the description (the log's last line).

    *is_ready*: whether a module that runs has answered since its start; None when it cannot be asked.
    *pull*: how far the pull of its image is; None when there is none.
    """
    status, description = _status(spec, container, restarts)
    if status == "running" and is_ready is False:
        description = "started, does not answer yet"
    if trouble is not None:
        description = trouble.message if container is None else f"{description}; next: {trouble.message}"
        if container is None:
            status = "failed" if trouble.retry_at is None else "backoff"
    elif pull is not None and container is None:
        status, description = "unknown", f"pulling {spec.image}{_so_far(pull)}"
    elif note:
        description = f"{description}: {note}" if description else note
    entry: Json = {
        "type": spec.type,
        "version": spec.version,
        "status": spec.status,
        "restartPolicy": spec.restart_policy,
        "imagePullPolicy": spec.pull_policy,
        "startupOrder": spec.startup_order,
        "runtimeStatus": status,
        "statusDescription": description[:_MAX_DESCRIPTION],
        "exitCode": container.exit_code if container and container.exit_code is not None else 0,
        "restartCount": restarts.count,
        "settings": {"image": container.image if container else spec.image},
    }
    if pull is not None and pull.total_bytes:
        entry["pull"] = {"doneBytes": pull.done_bytes, "totalBytes": pull.total_bytes}
    if is_ready is not None:
        entry["ready"] = is_ready and status == "running"
    if container is not None:
        entry["settings"]["imageHash"] = container.image_digest
    times = {
        "lastStartTimeUtc": container.started_at if container else None,
        "lastExitTimeUtc": container.exited_at if container else None,
        "lastRestartTimeUtc": restarts.last_restart_at,
    }
    entry |= {name: stamp(at) for name, at in times.items() if at is not None}
    return entry


def _status(spec: ModuleSpec, container: Container | None, restarts: Restarts) -> tuple[str, str]:
    if container is None:
        return "unknown", "not created yet"
    if container.state is State.RUNNING:
        return "running", "running"
    if container.state is State.CREATED:
        return "stopped", "created"
    description = f"exited with code {container.exit_code}"
    if restarts.was_asked_to_stop and spec.status == "stopped":
        return "stopped", description
    due = restart_due(spec, container, restarts)
    if due is not None:
        return "backoff", f"{description}; it is started again at {stamp(due)}"
    if restarts.count >= MAX_RESTARTS:
        return "failed", f"{description}; given up after {restarts.count} restarts"
    return ("failed" if container.exit_code else "stopped"), description


def _so_far(pull: Progress) -> str:
    if not pull.total_bytes:
        return ""
    if pull.done_bytes >= pull.total_bytes:
        return ": fetched and verified, unpacking"
    return f": {pull.done_bytes / 1e6:.1f} of {pull.total_bytes / 1e6:.1f} MB"


def stamp(at: float) -> str:
    """Return a time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def agent_report(
    modules: Mapping[str, Json], desired_version: int | None, status: Json, platform: Json, engine: str, version: str
) -> Json:
    """Return the whole of $edgeAgent's reported properties."""
    running: Json = {"runtimeStatus": "running", "type": "docker", "settings": {"image": f"sanderling/edge:{version}"}}
    reported: Json = {
        "schemaVersion": "1.1",
        "version": {"version": version},
        "lastDesiredStatus": status,
        "runtime": {"type": "docker", "engine": engine, "platform": platform},
        "systemModules": {"edgeAgent": running, "edgeHub": running},
        "modules": dict(modules),
    }
    if desired_version is not None:
        reported["lastDesiredVersion"] = desired_version
    return reported
