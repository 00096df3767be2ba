"""The unmodified azure-iot-hub works against the hub's REST API over TLS.

It runs in a process of its own: it takes our CA from the environment only.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sanderling.hub import Hub
from tests.hub.world import Authority, HubInThread, make_engine

ADDRESS = "127.0.0.1"

SCRIPT = """
import os, warnings
warnings.simplefilter("ignore")
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, ConfigurationContent, QuerySpecification, Twin, TwinProperties

manager = IoTHubRegistryManager.from_connection_string(os.environ["SERVICE"])
configurations = IoTHubConfigurationManager.from_connection_string(os.environ["SERVICE"])
device = manager.create_device_with_sas("plain", "", "", "enabled")
assert device.device_id == "plain" and device.status == "enabled", device
assert device.authentication.symmetric_key.primary_key
edge = manager.create_device_with_sas("edge1", "", "", "enabled", iot_edge=True)
assert edge.capabilities.iot_edge
assert [m.module_id for m in manager.get_modules("edge1")] == ["$edgeAgent", "$edgeHub"]
try:
    manager.create_device_with_sas("plain", "", "", "enabled")
    raise SystemExit("a second device was made")
except Exception as error:
    assert error.response.status_code == 409, error

got = manager.get_device("plain")
assert got.etag == device.etag
got = manager.update_device_with_sas("plain", got.etag, "", "", "disabled", "for a test")
assert got.status == "disabled"
assert sorted(d.device_id for d in manager.get_devices()) == ["edge1", "plain"]

twin = manager.get_twin("edge1")
change = Twin(tags={"site": "north"}, properties=TwinProperties(desired={"a": 1}))
twin = manager.update_twin("edge1", change, twin.etag)
assert twin.tags == {"site": "north"} and twin.properties.desired["a"] == 1, twin
try:
    manager.update_twin("edge1", Twin(tags={"site": "south"}), "c3RhbGU=")
    raise SystemExit("a stale ETag was taken")
except Exception as error:
    assert error.response.status_code == 412, error

module = manager.create_module_with_sas("edge1", "m1", "me", "", "")
assert module.module_id == "m1" and module.managed_by == "me"
module_twin = manager.update_module_twin("edge1", "m1", Twin(properties=TwinProperties(desired={"b": 2})), "*")
assert module_twin.properties.desired["b"] == 2

agent = {"schemaVersion": "1.1", "runtime": {"type": "docker", "settings": {}}, "systemModules": {},
         "modules": {"cam": {"type": "docker", "settings": {"image": "localhost/cam:1", "createOptions": "{}"}}}}
hub = {"schemaVersion": "1.1", "routes": {"r": "FROM /messages/* INTO $upstream"}}
content = {"$edgeAgent": {"properties.desired": agent}, "$edgeHub": {"properties.desired": hub}}
configurations.apply_configuration_on_edge_device("edge1", ConfigurationContent(modules_content=content))
desired = manager.get_module_twin("edge1", "$edgeAgent").properties.desired
assert desired["modules"]["cam"]["settings"]["image"] == "localhost/cam:1"
assert "cam" in [m.module_id for m in manager.get_modules("edge1")]

result = manager.query_iot_hub(QuerySpecification(query="SELECT * FROM devices"), None, 10)
assert sorted(t.device_id for t in result.items) == ["edge1", "plain"], result.items
assert result.continuation_token is None
try:
    manager.invoke_device_method("plain", CloudToDeviceMethod(method_name="m", payload=None))
    raise SystemExit("a device that is away answered")
except Exception as error:
    assert error.response.status_code == 404, error
assert manager.get_device_registry_statistics().total_device_count == 2
assert manager.get_service_statistics().connected_device_count == 0
manager.delete_module("edge1", "m1")
manager.delete_device("plain")
assert [d.device_id for d in manager.get_devices()] == ["edge1"]
print("ok")
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    engine = make_engine(tmp_path / "hub.db")
    hub = Hub(engine)
    yield hub
    hub.close()
    engine.dispose()


def test_the_public_registry_manager_works(hub: Hub, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls", ADDRESS)
    with HubInThread(hub, authority, ADDRESS, 0, https=True) as running:
        service = hub.connection_string("iothubowner", f"{ADDRESS}:{running.https_port}")
        environment = {**os.environ, "SERVICE": service, "REQUESTS_CA_BUNDLE": str(authority.ca_path)}
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert (ran.stdout.strip(), ran.returncode) == ("ok", 0), ran.stderr
