"""Pages about devices, their modules and their messages."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sanderling.errors import SanderlingError
from sanderling.portal import hints
from sanderling.portal.listing import latest_messages
from sanderling.portal.visit import Page, Visit
from sanderling.sdk import Device, Message, ModuleState, Workspace
from sanderling.sdk.wire import endpoint

log = logging.getLogger(__name__)

DEVICES = 1000
MESSAGES = 50
MESSAGES_OF_DEVICE = 10
REFRESH_S = 5
API_VERSION = {"api-version": "2021-04-12"}
HIDDEN = "(hidden here)"

# What reading an answer raises when a device reported other things than its protocol allows:
# texts for numbers, lists for texts, JSON nested without end.
ODD_ANSWERS = (AttributeError, KeyError, TypeError, ValueError, RecursionError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device as a list shows it. *state* is connected, disconnected or disabled."""

    id: str
    state: str
    is_edge: bool
    last_seen: datetime | None


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """A module as a device's page shows it. *status* is the reported one, or "expected" before any report."""

    name: str
    is_system: bool
    status: str
    description: str
    image: str
    exit_code: int | None
    restarts: int | None
    started_time: datetime | None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as a list shows it; *body* is None when it is neither JSON nor text."""

    sequence: int
    sender: str
    output: str | None
    enqueued_time: datetime | None
    size_bytes: int
    properties: Mapping[str, Any]
    body: Any


def device_row(device: Device, now: datetime) -> DeviceRow:
    """A device that is connected is seen now, whenever it last said anything."""
    state = "disabled" if device.status != "enabled" else "connected" if device.is_connected else "disconnected"
    last_seen = now if device.is_connected else device.last_activity_time
    return DeviceRow(device.device_id, state, device.is_edge, last_seen)


def module_row(module: ModuleState) -> ModuleRow:
    seen = module.status is not None
    description = "" if module.description == module.status else str(module.description)
    if seen and module.desired_image and module.image != module.desired_image:
        description = f"{description + '; ' if description else ''}to be replaced by {module.desired_image}"
    return ModuleRow(
        name=module.name,
        is_system=module.is_system,
        status=str(module.status or "expected"),
        description=description,
        image=module.image,
        exit_code=None if module.status == "running" else module.exit_code,  # of an end that is over
        restarts=module.restart_count if seen else None,
        started_time=module.started_time,
    )


def message_row(message: Message) -> MessageRow:
    sender = message.device_id + (f"/{message.module_id}" if message.module_id else "")
    is_binary = message.body is None and message.values.get("bodyBase64")
    return MessageRow(
        sequence=message.sequence,
        sender=sender,
        output=message.output,
        enqueued_time=message.enqueued_time,
        size_bytes=message.size_bytes,
        properties=message.properties,
        body=f"base64: {message.values['bodyBase64']}" if is_binary else message.body,
    )


def without_passwords(value: Any) -> Any:
    """Return a twin's JSON with every password in it hidden: a deployment holds the registry's."""
    if isinstance(value, dict):
        return {key: HIDDEN if key == "password" else without_passwords(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_passwords(one) for one in value]
    return value


def show_devices(visit: Visit) -> Page:
    """All devices of the server."""
    rows = [device_row(device, visit.now) for device in Device.list(visit.server, limit=DEVICES)]
    rows.sort(key=lambda row: row.id)
    values = {
        "devices": rows,
        "connected": sum(row.state == "connected" for row in rows),
        "is_cut": len(rows) >= DEVICES,
        "create": hints.create_device(),
    }
    return Page("devices.html", "devices", values, refresh_s=REFRESH_S)


def show_device(visit: Visit) -> Page:
    """One device: modules, messages, how to connect it, twins. A part that cannot be read leaves the others."""
    device = Device.get(visit.server, visit.params["device"])
    faults: list[str] = []
    verdict = attempt(faults, device.desired_status)
    values = {
        "device": device_row(device, visit.now),
        "modules": attempt(faults, lambda: [module_row(module) for module in device.modules()]),
        "deployment_fault": verdict.description or f"code {verdict.code}" if verdict and verdict.code >= 400 else None,
        "messages": attempt(faults, lambda: message_rows(visit.server, MESSAGES_OF_DEVICE, device.device_id)),
        "twins": attempt(faults, lambda: twins_of(device)) or {},
        "faults": faults,
        "deploy": hints.deploy(device=device.device_id),
        "connection_string": hints.connection_string(device.device_id),
        "fetch_ca": hints.fetch_ca(visit.url),
        "edge_run": hints.edge_run(),
    }
    return Page("device.html", "devices", values, at_top=False, refresh_s=REFRESH_S)


def show_messages(visit: Visit) -> Page:
    """The latest messages, of all devices or of one."""
    device = visit.query.get("device") or None
    faults: list[str] = []
    known = attempt(faults, lambda: Device.list(visit.server, limit=DEVICES)) or ()
    names = sorted(one.device_id for one in known)
    if device and device not in names:
        names.append(device)
    values = {
        "messages": attempt(faults, lambda: message_rows(visit.server, MESSAGES, device)),
        "device": device,
        "device_names": names,
        "faults": faults,
    }
    return Page("messages.html", "messages", values, refresh_s=REFRESH_S)


def message_rows(server: Workspace, count: int, device: str | None = None) -> Sequence[MessageRow]:
    """The latest messages, of all devices or of one."""
    return [message_row(message) for message in latest_messages(server, count, device)]


def twins_of(device: Device) -> dict[str, Any]:
    """The twins of the device and of the edge runtime's own modules, by name."""
    names = [device.device_id, *(("$edgeAgent", "$edgeHub") if device.is_edge else ())]
    found = {}
    for number, name in enumerate(names):
        segments = ("twins", device.device_id) if number == 0 else ("twins", device.device_id, "modules", name)
        found[name] = without_passwords(device.workspace.client.call("GET", endpoint(*segments), params=API_VERSION))
    return found


def attempt(faults: list[str], read: Callable[[], T]) -> T | None:
    """Return what *read* gives; when it fails, note why in *faults* and return None."""
    try:
        return read()
    except SanderlingError as error:
        message = error.message
    except ODD_ANSWERS:
        log.exception("an answer of the API has an unexpected shape")
        message = "A device reported something that cannot be understood; the server's log says what."
    if message not in faults:
        faults.append(message)
    return None
