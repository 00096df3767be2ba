"""The first page: where things stand on the way from model to score, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sanderling.portal import hints
from sanderling.portal.devices import DeviceRow, MessageRow, attempt, device_row, message_rows
from sanderling.portal.formats import age
from sanderling.portal.images import BUILDING
from sanderling.portal.listing import newest_first
from sanderling.portal.rendering import path
from sanderling.portal.visit import Page, Visit
from sanderling.sdk import Device, Image, Model, Workspace
from sanderling.sdk.registry import Repository

ROWS = 5
UNKNOWN = ("–", "could not be read")
REFRESH_S = 5


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the journey: how many there are, and the one thing worth knowing of them."""

    name: str
    href: str
    count: str
    note: str


@dataclass(frozen=True, slots=True)
class Hint:
    """One thing to do, with its command."""

    text: str
    command: str
    is_done: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """What the server holds, newest first; None for what could not be read."""

    models: Sequence[Model] | None = ()
    images: Sequence[Image] | None = ()
    repositories: Sequence[Repository] | None = ()
    devices: Sequence[DeviceRow] | None = ()
    messages: Sequence[MessageRow] | None = ()


def show_overview(visit: Visit) -> Page:
    """The journey of one workspace. A part that cannot be read is named, and leaves the others."""
    faults: list[str] = []
    found = find(visit, faults)
    values = {
        "steps": journey(visit, found),
        "images": (found.images or ())[:ROWS],
        "devices": (found.devices or ())[:ROWS],
        "messages": found.messages or (),
        "hints": [] if faults else next_steps(visit, found),
        "faults": faults,
    }
    return Page("overview.html", "overview", values, refresh_s=REFRESH_S)


def find(visit: Visit, faults: list[str]) -> Findings:
    server = visit.server
    devices = attempt(faults, lambda: devices_by_state(server, visit.now))
    messages = attempt(faults, lambda: message_rows(server, ROWS))
    if visit.workspace is None:
        return Findings(devices=devices, messages=messages)
    home = visit.home
    return Findings(
        models=attempt(faults, lambda: newest_first(Model.list(home))),
        images=attempt(faults, lambda: newest_first(Image.list(home))),
        repositories=attempt(faults, home.registry.repositories),
        devices=devices,
        messages=messages,
    )


def devices_by_state(server: Workspace, now: datetime) -> Sequence[DeviceRow]:
    """The devices, those that are connected first."""
    rows = [device_row(device, now) for device in Device.list(server)]
    return sorted(rows, key=lambda row: (row.state != "connected", row.id))


def journey(visit: Visit, found: Findings) -> Sequence[Step]:
    """The five steps with their figures."""

    def inside(section: str) -> str:
        return path("workspaces", visit.workspace, section) if visit.workspace else "/"

    return (
        Step("Models", inside("models"), *of_models(found.models, visit.now)),
        Step("Images", inside("images"), *of_images(found.images)),
        Step("Registry", inside("registry"), *of_repositories(found.repositories)),
        Step("Devices", "/fleet/devices", *of_devices(found.devices)),
        Step("Messages", "/fleet/messages", *of_messages(found.messages, visit.now)),
    )


def of_models(models: Sequence[Model] | None, now: datetime) -> tuple[str, str]:
    if not models:
        return UNKNOWN if models is None else ("0", "none registered")
    return str(len({model.name for model in models})), f"{models[0].id}, {age(models[0].created_time, now)}"


def of_images(images: Sequence[Image] | None) -> tuple[str, str]:
    if not images:
        return UNKNOWN if images is None else ("0", "none built")
    count = str(len({image.name for image in images}))
    building = sum(image.state in BUILDING for image in images)
    if building:
        return count, f"{building} building"
    return count, f"{images[0].id} failed" if images[0].state == "failed" else f"latest {images[0].id}"


def of_repositories(repositories: Sequence[Repository] | None) -> tuple[str, str]:
    if not repositories:
        return UNKNOWN if repositories is None else ("0", "nothing pushed")
    tags = sum(len(repository.tags) for repository in repositories)
    return str(tags), f"{'tag' if tags == 1 else 'tags'} in {counted(len(repositories), 'repository', 'repositories')}"


def of_devices(devices: Sequence[DeviceRow] | None) -> tuple[str, str]:
    if not devices:
        return UNKNOWN if devices is None else ("0", "none registered")
    return str(len(devices)), f"{sum(row.state == 'connected' for row in devices)} connected"


def of_messages(messages: Sequence[MessageRow] | None, now: datetime) -> tuple[str, str]:
    if not messages:
        return UNKNOWN if messages is None else ("0", "none arrived")
    return f"{messages[0].sequence:,}", f"latest {age(messages[0].enqueued_time, now)}"


def counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def next_steps(visit: Visit, found: Findings) -> Sequence[Hint]:
    """What is left to do until messages arrive; nothing when they do."""
    built = [image for image in found.images or () if image.state == "succeeded"]
    model_id = found.models[0].id if found.models else "digits:1"
    image_id = built[0].id if built else "digits:1"
    device_id = found.devices[0].id if found.devices else "press-4"
    steps = (
        Hint("Make a workspace, in the folder of your project", hints.init(visit.url), visit.workspace is not None),
        Hint("Register a model", hints.register(), bool(found.models)),
        Hint("Build an image from it", hints.build(model_id), bool(built)),
        Hint("Register a device; its page says how to connect it", hints.create_device(), bool(found.devices)),
        Hint("Deploy the image to the device", hints.deploy(image_id, device_id), bool(built and found.messages)),
    )
    return () if all(step.is_done for step in steps) else steps
