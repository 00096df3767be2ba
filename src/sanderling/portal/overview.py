"""The first page: where things stand on the way from model to score, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass

from sanderling.portal import hints
from sanderling.portal.devices import DeviceRow, MessageRow, attempt, device_row, messages_of
from sanderling.portal.formats import age
from sanderling.portal.images import BUILDING
from sanderling.portal.listing import newest_first
from sanderling.portal.rendering import path
from sanderling.portal.visit import Page, Visit
from sanderling.sdk import Device, Image, Model
from sanderling.sdk.registry import Repository

ROWS = 5
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
    """What the server holds, newest first."""

    models: Sequence[Model] = ()
    images: Sequence[Image] = ()
    repositories: Sequence[Repository] = ()
    devices: Sequence[DeviceRow] = ()
    messages: Sequence[MessageRow] = ()


def show_overview(visit: Visit) -> Page:
    """The journey of one workspace. A part that cannot be read is named, and leaves the others."""
    faults: list[str] = []
    found = find(visit, faults)
    values = {
        "steps": journey(visit, found),
        "images": found.images[:ROWS],
        "devices": found.devices[:ROWS],
        "messages": found.messages,
        "hints": [] if faults else next_steps(visit, found),
        "faults": faults,
    }
    return Page("overview.html", "overview", values, refresh_s=REFRESH_S)


def find(visit: Visit, faults: list[str]) -> Findings:
    devices = [device_row(one) for one in attempt(faults, lambda: Device.list(visit.server)) or ()]
    devices.sort(key=lambda row: (row.state != "connected", row.id))
    messages = messages_of(visit, ROWS, faults)
    if visit.workspace is None:
        return Findings(devices=devices, messages=messages)
    home = visit.home
    return Findings(
        models=newest_first(attempt(faults, lambda: Model.list(home)) or ()),
        images=newest_first(attempt(faults, lambda: Image.list(home)) or ()),
        repositories=attempt(faults, home.registry.repositories) or (),
        devices=devices,
        messages=messages,
    )


def journey(visit: Visit, found: Findings) -> Sequence[Step]:
    """The five steps with their figures."""

    def inside(*segments: str) -> str:
        return path("workspaces", visit.workspace, *segments) if visit.workspace else "/"

    names = {model.name for model in found.models}
    tags = sum(len(repository.tags) for repository in found.repositories)
    return (
        Step("Models", inside("models"), str(len(names)), note_of_models(visit, found.models)),
        Step("Images", inside("images"), str(len({image.name for image in found.images})), note_of_images(found)),
        Step("Registry", inside("registry"), str(tags), counted(len(found.repositories), "repository", "repositories")),
        Step("Devices", "/fleet/devices", str(len(found.devices)), note_of_devices(found.devices)),
        Step("Messages", "/fleet/messages", note_count(found.messages), note_of_messages(visit, found.messages)),
    )


def note_of_models(visit: Visit, models: Sequence[Model]) -> str:
    return f"{models[0].id}, {age(models[0].created_time, visit.now)}" if models else "none registered"


def note_of_images(found: Findings) -> str:
    if not found.images:
        return "none built"
    building = sum(image.state in BUILDING for image in found.images)
    if building:
        return f"{building} building"
    failed = found.images[0].state == "failed"
    return f"{found.images[0].id} failed" if failed else f"latest {found.images[0].id}"


def note_of_devices(devices: Sequence[DeviceRow]) -> str:
    if not devices:
        return "none registered"
    return f"{sum(row.state == 'connected' for row in devices)} connected"


def note_count(messages: Sequence[MessageRow]) -> str:
    return f"{messages[0].sequence:,}" if messages else "0"


def note_of_messages(visit: Visit, messages: Sequence[MessageRow]) -> str:
    return f"latest {age(messages[0].enqueued_time, visit.now)}" if messages else "none arrived"


def counted(count: int, one: str, many: str) -> str:
    return f"in {count} {one if count == 1 else many}" if count else "nothing pushed"


def next_steps(visit: Visit, found: Findings) -> Sequence[Hint]:
    """What is left to do until messages arrive; nothing when they do."""
    built = [image for image in found.images if image.state == "succeeded"]
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
