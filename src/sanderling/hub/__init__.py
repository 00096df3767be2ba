"""Stage 4, deployment: devices, twins, deployments, direct methods and messages, as IoT Hub has them.

Unmodified azure-iot-device (MQTT) and azure-iot-hub (REST) clients work against it.

- `hub`: the parts put together. `parts`: what the endpoints share.
- `identities`, `twins`, `deployments`, `events`, `sessions`: what is kept, in SQL (`tables`).
- `access`: policies, signatures, bearer tokens. `errors`: what goes wrong, and IoT Hub's codes for it.
- `device_pulls`: who a device is and which images it is to run, for a registry.
- `mqtt_endpoint`, `client_connection`, `connections`: MQTT over TLS.
- `rest_edge`, `rest_registry`, `rest_twins`, `views`: REST.
"""

from sanderling.hub.access import ALL_RIGHTS, POLICIES
from sanderling.hub.device_pulls import DevicePulls, PullingDevice
from sanderling.hub.events import EventStream, StoredEvent
from sanderling.hub.hub import Hub
from sanderling.hub.mqtt_endpoint import MqttServer

__all__ = ["ALL_RIGHTS", "POLICIES", "DevicePulls", "EventStream", "Hub", "MqttServer", "PullingDevice", "StoredEvent"]
