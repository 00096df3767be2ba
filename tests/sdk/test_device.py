from typing import Any

from sanderling import Device, Workspace
from sanderling.iot import ConnectionString
from sanderling.sdk.device import desired_status_in, module_states_in

TWIN: dict[str, Any] = {
    "desired": {
        "$version": 3,
        "systemModules": {"edgeHub": {"status": "running", "settings": {"image": "hub"}}},
        "modules": {
            "new": {"status": "running", "settings": {"image": "r/new:1"}},
            "old": {"settings": {"image": "r/old:2"}},
        },
    },
    "reported": {
        "lastDesiredVersion": 2,
        "lastDesiredStatus": {"code": 500, "description": "cannot"},
        "modules": {
            "old": {
                "runtimeStatus": "backoff",
                "exitCode": 1,
                "statusDescription": "it ended",
                "restartCount": 4,
                "lastStartTimeUtc": "2026-05-01T10:00:00Z",
                "settings": {"image": "r/old:1", "imageHash": "sha256:abc"},
            },
            "gone": {"runtimeStatus": "stopped", "lastStartTimeUtc": "0001-01-01T00:00:00Z"},
        },
    },
}


def test_modules_are_what_is_wanted_beside_what_is_reported() -> None:
    hub, gone, new, old = module_states_in(TWIN)
    assert (hub.name, hub.is_system, hub.status) == ("edgeHub", True, None)
    assert (gone.desired_status, gone.status, gone.started_time) == (None, "stopped", None)
    assert (new.desired_status, new.status, new.image) == ("running", None, "r/new:1")
    assert (old.image, old.desired_image, old.image_digest) == ("r/old:1", "r/old:2", "sha256:abc")
    assert (old.status, old.exit_code, old.restart_count, old.description) == ("backoff", 1, 4, "it ended")


def test_the_verdict_is_of_the_version_it_speaks_of() -> None:
    verdict = desired_status_in(TWIN)
    assert (verdict.version, verdict.code, verdict.description) == (2, 500, "cannot")
    assert desired_status_in({}).version == 0


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
