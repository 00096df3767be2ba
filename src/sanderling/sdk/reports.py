"""What a device reports of its modules, beside what is wanted of them.

A device may report anything that is JSON: a text where a number belongs, a list
where an object does. What cannot be read as what it should be counts as not
reported; nothing here raises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class ModuleState:
    """A module of a device: what is wanted of it and what the device reports.

    Attributes:
        name: Its name.
        is_system: Whether it belongs to the edge runtime itself.
        desired_status: running or stopped, or None when it is not (or no longer) wanted.
        status: running, backoff, unhealthy, stopped, failed, dead or unknown; None before the first report.
        is_ready: Whether it has answered since its start; None when the device cannot ask it.
        pulled: Bytes that it has of the image and bytes in all, while it is pulling; else None.
        description: What the device says of it.
        image: The image it runs, or is to run.
        desired_image: The image it is to run, or None.
        image_digest: The digest the device runs, or None.
        exit_code: Of its last end, or None.
        restart_count: How often it was started again.
        started_time: When it was started last.
    """

    name: str
    is_system: bool
    desired_status: str | None
    status: str | None
    is_ready: bool | None
    pulled: tuple[int, int] | None
    description: str
    image: str
    desired_image: str | None
    image_digest: str | None
    exit_code: int | None
    restart_count: int
    started_time: datetime | None

    @property
    def summary(self) -> str:
        """Status and description in one; empty before the first report."""
        status = "" if self.status in (None, "unknown") and self.description else self.status or ""
        return ": ".join(dict.fromkeys(part for part in (status, self.description) if part))

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "name": self.name,
            "isSystem": self.is_system,
            "desiredStatus": self.desired_status,
            "status": self.status,
            "ready": self.is_ready,
            "pull": {"doneBytes": self.pulled[0], "totalBytes": self.pulled[1]} if self.pulled else None,
            "statusDescription": self.description,
            "image": self.image,
            "desiredImage": self.desired_image,
            "imageDigest": self.image_digest,
            "exitCode": self.exit_code,
            "restartCount": self.restart_count,
            "startedAt": self.started_time.isoformat() if self.started_time else None,
        }


@dataclass(frozen=True, slots=True)
class DesiredStatus:
    """What the device says of the deployment as a whole.

    Attributes:
        version: The desired version it speaks of; 0 before the first report.
        code: 200 when it is applied; 400 and up when it cannot be.
        description: Why it cannot be.
    """

    version: int
    code: int
    description: str


def module_states_in(twin: Mapping[str, Any]) -> Sequence[ModuleState]:
    """The modules in the properties of an `$edgeAgent` twin, those of the edge runtime first."""
    desired, reported = _object(twin.get("desired")), _object(twin.get("reported"))
    states = []
    for section, is_system in (("systemModules", True), ("modules", False)):
        wanted, seen = _object(desired.get(section)), _object(reported.get(section))
        names = {name for name in (*wanted, *seen) if not name.startswith("$")}
        states += [_module_state(name, is_system, wanted.get(name), _object(seen.get(name))) for name in sorted(names)]
    return states


def desired_status_in(twin: Mapping[str, Any]) -> DesiredStatus:
    """The device's verdict in the properties of its `$edgeAgent` twin."""
    reported = _object(twin.get("reported"))
    status = _object(reported.get("lastDesiredStatus"))
    return DesiredStatus(
        _number(reported.get("lastDesiredVersion")) or 0,
        _number(status.get("code")) or 0,
        _text(status.get("description")) or "",
    )


def activity_time(value: object) -> datetime | None:
    """A time as IoT Hub and devices write it; None for the year 1, which means never, and for what is no time."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if moment is None or moment.year < 1970:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _module_state(name: str, is_system: bool, wanted: object, seen: Mapping[str, Any]) -> ModuleState:
    settings, seen_settings = _object(_object(wanted).get("settings")), _object(seen.get("settings"))
    desired_image = _text(settings.get("image"))
    return ModuleState(
        name=name,
        is_system=is_system,
        desired_status=(_text(_object(wanted).get("status")) or "running") if wanted else None,
        status=_text(seen.get("runtimeStatus")),
        pulled=_pulled(_object(seen.get("pull"))),
        is_ready=ready if isinstance(ready := seen.get("ready"), bool) else None,
        description=_text(seen.get("statusDescription")) or "",
        image=_text(seen_settings.get("image")) or desired_image or "",
        desired_image=desired_image,
        image_digest=_text(seen_settings.get("imageHash")),
        exit_code=_number(seen.get("exitCode")),
        restart_count=_number(seen.get("restartCount")) or 0,
        started_time=activity_time(seen.get("lastStartTimeUtc")),
    )


def _pulled(pull: Mapping[str, Any]) -> tuple[int, int] | None:
    done, total = _number(pull.get("doneBytes")), _number(pull.get("totalBytes"))
    return (done, total) if done is not None and total is not None and 0 <= done <= total else None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
