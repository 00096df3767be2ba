from sanderling import Device, Workspace
from sanderling.iot import ConnectionString


def test_a_device_and_its_sensor_have_keys_of_their_own(workspace: Workspace) -> None:
    device = Device.create(workspace, f"d-{workspace.name}")
    try:
        assert Device.create(workspace, device.device_id, exist_ok=True).device_id == device.device_id
        secret = ConnectionString.parse(device.connection_string())
        assert secret.device_id == device.device_id
        key = device.create_module("sensor")
        assert key
        assert key != secret.shared_access_key
        assert device.create_module("sensor", exist_ok=True) == key
        assert device.modules() == []
    finally:
        device.delete()
