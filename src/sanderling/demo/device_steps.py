"""Steps 6 and 7: the device, its edge runtime, and the module on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from sanderling.demo.children import wait_until
from sanderling.demo.scene import Scene
from sanderling.demo.sensor import Identity
from sanderling.errors import NotFound
from sanderling.iot import ConnectionString
from sanderling.sdk.deployment import Deployment
from sanderling.sdk.device import Device
from sanderling.sdk.image import Image
from sanderling.sdk.reports import ModuleState
from sanderling.sdk.workspace import Workspace

DEVICE = "demo-device"
SENSOR = "sensor"
CONNECT_S = 60.0
RUN_S = 180.0


@dataclass(frozen=True, slots=True)
class OnDevice:
    """The device and the sensor on it."""

    device: Device
    sensor: Identity


def start_device(scene: Scene, workspace: Workspace) -> OnDevice:
    """Register a device with a sensor, and start the edge runtime with nothing but its connection string and the CA."""
    device = Device.create(workspace, DEVICE, exist_ok=True)
    key = device.create_module(SENSOR, exist_ok=True)
    secret = device.connection_string()
    host = ConnectionString.parse(secret).host_name
    ports, folders = scene.ports, scene.folders
    scene.children.start(
        "device",
        [
            *("edge", "run", "--ca", str(folders.ca), "--data", str(folders.device)),
            *("--gateway-port", str(ports.gateway), "--stop-modules"),
        ],
        given=secret,
    )
    wait_until("the device's connection", lambda: is_connected(device), scene.children, CONNECT_S)
    scene.say(f"device {device.device_id} is connected to {host}, with a key of its own")
    return OnDevice(device, Identity(host, device.device_id, SENSOR, key))


def deploy_module(scene: Scene, device: Device, image: Image) -> None:
    """Deploy the image as a module with its routes, and wait until it answers."""
    plan = Deployment(image, host_port=scene.ports.module, inputs_from=["sensor/digits"])
    for name, text in plan.routes.items():
        scene.say(f"route {name}: {text}")
    plan.apply(device)
    began = monotonic()

    def show(states: Sequence[ModuleState]) -> None:
        scene.children.check()
        for state in states:
            scene.say(f"{monotonic() - began:5.1f} s  {state.name}: {state.summary or 'not reported yet'}")

    plan.wait(device, on_change=show, timeout_s=RUN_S)
    scene.say(f"{monotonic() - began:5.1f} s  http://localhost:{scene.ports.module}/score answers")


def is_connected(device: Device) -> bool:
    """Ask the hub whether the device's agent is connected."""
    try:
        return Device.get(device.workspace, device.device_id).is_connected
    except NotFound:
        return False
