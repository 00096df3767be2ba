"""`sanderling deploy`: put an image on a device and see it run."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from sanderling.cli.device import MODULE_COLUMNS, module_rows
from sanderling.cli.durations import METAVAR, parse_duration
from sanderling.cli.output import JSON_HELP, Output
from sanderling.cli.progress import Meter
from sanderling.errors import Invalid
from sanderling.sdk.deployment import Deployment, ManifestDeployment
from sanderling.sdk.deployment_wait import modules_of
from sanderling.sdk.device import Device
from sanderling.sdk.hints import hinted
from sanderling.sdk.image import Image
from sanderling.sdk.own_credentials import OwnCredentials
from sanderling.sdk.registry_tokens import IssuedToken
from sanderling.sdk.reports import ModuleState
from sanderling.sdk.workspace import Workspace

EXAMPLE = "sanderling deploy --device press-4 --image digits --port 5001 --input-from camera"


def deploy(
    device: Annotated[str, typer.Option(metavar="DEVICE", help="The device.")],
    image: Annotated[
        str | None,
        typer.Option(metavar="NAME[:VERSION]", help="The image, or the full reference of one in any registry."),
    ] = None,
    module: Annotated[str | None, typer.Option(help="The module's name; the image's if none is given.")] = None,
    port: Annotated[int | None, typer.Option(help="The device's port where /score answers.", min=1, max=65535)] = None,
    input_from: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE[/OUTPUT]", help="Score what this module sends; may be repeated."),
    ] = None,
    route: Annotated[
        list[str] | None, typer.Option(metavar="'FROM ... INTO ...'", help="A further route; may be repeated.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Apply this deployment manifest as it is, in place of --image.")
    ] = None,
    registry_credentials: Annotated[
        bool,
        typer.Option(
            "--registry-credentials",
            help="For a device with Azure's IoT Edge runtime: put a pull-only token of its own into the manifest.",
        ),
    ] = False,
    expires: Annotated[
        str | None, typer.Option(metavar=METAVAR, help="How long the token of --registry-credentials is good; 90d.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the modules run.")] = True,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait.", min=1)] = 600,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Put an image on a device and see it run.

    The image becomes a module, and the device's other modules end: a deployment is the whole of
    what a device runs. For several modules, write a manifest; --manifest applies it as it is.

    A device signs in to this server's registry with its own identity, and may pull what its
    deployment names: the manifest holds no password. Azure's IoT Edge runtime cannot do that, and
    needs --registry-credentials.
    """
    out = Output(json_)
    if (image is None) == (manifest is None):
        raise hinted(Invalid("give either --image or --manifest"), EXAMPLE)
    if manifest is not None and (module or port or input_from or route or registry_credentials):
        raise Invalid(
            "--module, --port, --input-from, --route and --registry-credentials belong to --image; "
            "a manifest says all that itself"
        )
    if expires is not None and not registry_credentials:
        raise hinted(Invalid("--expires is for the token of --registry-credentials, and that is not given"), EXAMPLE)
    length = parse_duration("--expires", expires or "90d")
    workspace = Workspace.from_config()
    target = Device.get(workspace, device)
    plan: Deployment | ManifestDeployment
    if manifest is not None:
        plan = _apply_manifest(out, target, manifest)
    else:
        make = partial(_plan, workspace, image or "", module, port, input_from or [], route or [])
        plan = _apply_image(
            out, target, OwnCredentials(workspace, target), make, length if registry_credentials else None
        )
    out.step(f"The hub has it; {device} {'is connected' if target.is_connected else 'is not connected'}")
    states = _wait(out, target, plan, timeout) if wait else ()
    out.result({"deviceId": device, "waited": wait, "modules": [state.to_json() for state in states]})


def _apply_manifest(out: Output, target: Device, manifest: Path) -> ManifestDeployment:
    """Apply it as it is: it may hold a registry token that an earlier deployment made."""
    plan = Deployment.from_manifest(manifest)
    modules = ", ".join(sorted(modules_of(plan.manifest))) or "no modules"
    out.step(f"Plan for {target.device_id}: {manifest} with {modules}")
    _show_removals(out, target, plan)
    plan.apply(target)
    return plan


def _apply_image(
    out: Output,
    target: Device,
    own: OwnCredentials,
    make: Callable[[IssuedToken | None], Deployment],
    token_length: timedelta | None,
) -> Deployment:
    """Apply what *make* plans, with a registry token of the device's own if there shall be one."""
    plan = make(None)
    _show_plan(out, target.device_id, plan)
    _show_removals(out, target, plan)
    if token_length is not None:
        issued = own.make(plan.image, token_length)
        until = f"{issued.token.expires_time:%Y-%m-%d}"
        out.step(f"{target.device_id} gets the registry token {issued.username}, until {until}")
        plan = make(issued)
    with own.settled():
        plan.apply(target)
    return plan


def _wait(
    out: Output, target: Device, plan: Deployment | ManifestDeployment, timeout_s: float
) -> Sequence[ModuleState]:
    """Wait until the modules run, and show how they come to."""
    began = monotonic()
    try:
        with Meter(out) as meter:
            states = plan.wait(target, on_change=_States(out, meter), timeout_s=timeout_s)
    except KeyboardInterrupt:
        again = f"sanderling device modules {target.device_id}"
        typer.echo(f"the device keeps the deployment; look again: {again}", err=True)
        raise
    out.step(f"Running after {monotonic() - began:.1f} s")
    out.table(MODULE_COLUMNS, module_rows(states))
    return states


def _plan(
    workspace: Workspace,
    image: str,
    module: str | None,
    port: int | None,
    inputs: Sequence[str],
    routes: Sequence[str],
    credentials: IssuedToken | None,
) -> Deployment:
    what = image if "/" in image else Image.get(workspace, image)
    return Deployment(what, module, port, inputs_from=inputs, routes=routes, credentials=credentials)


def _show_plan(out: Output, device: str, plan: Deployment) -> None:
    out.step(f"Plan for {device}")
    out.facts(
        [
            ("    module", plan.module),
            ("    image", plan.image),
            ("    port", f"{plan.host_port} -> 5001 (/score)" if plan.host_port else "none; --port publishes /score"),
            *((f"    route {name}", text) for name, text in plan.routes.items()),
        ]
    )


def _show_removals(out: Output, target: Device, plan: Deployment | ManifestDeployment) -> None:
    """A deployment is the whole of what a device runs: say what it ends."""
    for state in target.modules():
        if state.desired_status and not state.is_system and state.name not in modules_of(plan.manifest):
            out.line(f"    removes module {state.name} ({state.image}): it is not in this deployment")


class _States:
    """Shows each module's state when it changes, and a pull as progress."""

    def __init__(self, out: Output, meter: Meter) -> None:
        self._out, self._meter = out, meter
        self._last: dict[str, str] = {}

    def __call__(self, states: Sequence[ModuleState]) -> None:
        pulling = [state for state in states if state.pulled is not None]
        if not pulling:
            self._meter.close()
        for state in pulling[:1]:
            done, total = state.pulled or (0, 0)
            self._meter(f"pulling {state.name}", done, total)
        for state in states:
            text = f"    {state.name}: {state.summary or 'waiting for the device'}"
            if state.pulled is not None:  # the bytes are the meter's
                text = f"    {state.name}: pulling {state.desired_image}"
            if self._last.get(state.name) != text:
                self._last[state.name] = text
                self._out.line(text)
