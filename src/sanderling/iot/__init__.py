"""The words of IoT Hub and IoT Edge: what the two sides of the wire say to each other, with no wire in it.

Pure: standard library only; time and randomness come in as arguments.

- `identity`: which names devices and modules may have.
- `sas`, `connection_string`: who somebody is.
- `property_bag`, `message`, `topics`: what travels over MQTT, and on which topic.
- `twin`: desired and reported properties, merge patches, versions, limits.
- `manifest`: deployment manifests as typed specs; what we do not know survives.
- `routes`, `conditions`: ``FROM ... WHERE ... INTO ...``.

The facts follow IoT Hub's and IoT Edge's public documents, and the unmodified clients azure-iot-device and
azure-iot-hub.
"""

from sanderling.iot.connection_string import ConnectionString
from sanderling.iot.manifest import (
    AgentConfig,
    DeploymentManifest,
    HubConfig,
    ModuleSpec,
    RegistryCredential,
    RouteSpec,
)
from sanderling.iot.message import Message
from sanderling.iot.routes import ModuleInput, Route, Routes, Upstream
from sanderling.iot.twin import Section, TwinLimits

__all__ = [
    "AgentConfig",
    "ConnectionString",
    "DeploymentManifest",
    "HubConfig",
    "Message",
    "ModuleInput",
    "ModuleSpec",
    "RegistryCredential",
    "Route",
    "RouteSpec",
    "Routes",
    "Section",
    "TwinLimits",
    "Upstream",
]
