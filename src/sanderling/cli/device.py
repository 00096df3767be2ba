"""`sanderling device`: create, list, show, connection-string, modules, delete."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sanderling.cli.help import example
from sanderling.cli.output import JSON_HELP, Output, age_text, confirm, tags_text
from sanderling.errors import Conflict, Invalid
from sanderling.sdk.device import Device
from sanderling.sdk.hints import hinted
from sanderling.sdk.reports import ModuleState
from sanderling.sdk.workspace import Workspace

app = typer.Typer(help="Register devices and see what runs on them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
DeviceId = Annotated[str, typer.Argument(metavar="DEVICE", help="The device's name.")]
MODULE_COLUMNS = ("MODULE", "STATE", "IMAGE", "#RESTARTS", "STARTED", "")


@app.command(epilog=example("sanderling device create press-4"))
def create(
    device_id: DeviceId,
    edge: Annotated[bool, typer.Option("--edge/--no-edge", help="Whether it runs the edge runtime.")] = True,
    json_: Json = False,
) -> None:
    """Register a device."""
    out = Output(json_)
    device = Device.create(Workspace.from_config(), device_id, edge=edge)
    out.step(f"Registered {device_id}")
    if edge:
        out.line(f"    its secret, for a file on the device: sanderling device connection-string {device_id} --to FILE")
        out.line("    then on the device: sanderling edge run --connection-string-file FILE --ca ca.pem")
    out.result(device.to_json())


@app.command("list", epilog=example("sanderling device list"))
def list_(json_: Json = False) -> None:
    """List the devices."""
    out = Output(json_)
    devices = Device.list(Workspace.from_config())
    out.table(
        ("DEVICE", "EDGE", "LINK", "LAST SEEN", "STATUS"),
        [
            (
                device.device_id,
                "yes" if device.is_edge else "no",
                "connected" if device.is_connected else "disconnected",
                _seen(device),
                device.status,
            )
            for device in devices
        ],
        empty="no devices yet; sanderling device create NAME",
    )
    out.result([device.to_json() for device in devices])


@app.command(epilog=example("sanderling device show press-4"))
def show(device_id: DeviceId, json_: Json = False) -> None:
    """Show one device and its modules."""
    out = Output(json_)
    device = Device.get(Workspace.from_config(), device_id)
    modules = device.modules() if device.is_edge else ()
    out.facts(
        [
            ("device", device.device_id),
            ("edge runtime", "yes" if device.is_edge else "no"),
            ("status", device.status),
            ("link", "connected" if device.is_connected else "disconnected"),
            ("last seen", _seen(device)),
            ("tags", tags_text(dict(device.tags))),
        ]
    )
    if modules:
        out.line()
        out.table(MODULE_COLUMNS, module_rows(modules))
    out.result({**device.to_json(), "modules": [module.to_json() for module in modules]})


@app.command("connection-string", epilog=example("sanderling device connection-string press-4 --to press-4.secret"))
def connection_string(
    device_id: DeviceId,
    to: Annotated[Path | None, typer.Option(help="Write it to this new file, readable by you alone.")] = None,
    json_: Json = False,
) -> None:
    """Print what a device needs to connect. It is a secret."""
    out = Output(json_)
    device = Device.get(Workspace.from_config(), device_id)
    secret = device.connection_string()
    if to is not None:
        _write_secret(to, secret)
        out.step(f"{to} holds it, readable by you alone")
        out.result({"deviceId": device_id, "file": str(to)})
        return
    if json_:
        out.result({"deviceId": device_id, "connectionString": secret})
    else:
        typer.echo(secret)


@app.command(epilog=example("sanderling device modules press-4"))
def modules(device_id: DeviceId, json_: Json = False) -> None:
    """Show the modules of a device, as it reports them."""
    out = Output(json_)
    device = Device.get(Workspace.from_config(), device_id)
    states = device.modules()
    verdict = device.desired_status()
    if verdict.code >= 400:
        out.line(f"the device refuses its deployment ({verdict.code}): {verdict.description}")
    out.table(MODULE_COLUMNS, module_rows(states), empty="no modules; sanderling deploy --help")
    out.result([state.to_json() for state in states])


@app.command(epilog=example("sanderling device delete press-4 --yes"))
def delete(
    device_id: DeviceId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: Json = False,
) -> None:
    """Delete a device with its modules and keys."""
    out = Output(json_)
    device = Device.get(Workspace.from_config(), device_id)
    confirm(f"Delete device {device_id!r}? Its connection string stops working.", yes)
    device.delete()
    out.step(f"Deleted {device_id}")
    out.result({"deleted": device_id})


def _seen(device: Device) -> str:
    """A device that is connected is seen now, whenever it last said anything."""
    return "now" if device.is_connected else age_text(device.last_activity_time)


def module_rows(states: Sequence[ModuleState]) -> list[tuple[object, ...]]:
    """Rows for `MODULE_COLUMNS`."""
    return [
        (
            state.name,
            state.status or ("not reported yet" if state.desired_status else "unknown"),
            state.image,
            state.restart_count,
            age_text(state.started_time) if state.started_time else "",
            state.description if state.description != state.status else "",
        )
        for state in states
    ]


def _write_secret(path: Path, secret: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise hinted(Conflict(f"{path} is there already"), "another file, or remove it first") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
