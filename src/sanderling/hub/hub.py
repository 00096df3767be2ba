"""The hub: its parts put together, and what the server uses of it."""

import os
import ssl
import time
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager

from sqlalchemy import Engine
from starlette.routing import BaseRoute

from sanderling.hub import tables
from sanderling.hub.access import Access
from sanderling.hub.connections import Connections
from sanderling.hub.deployments import Deployments
from sanderling.hub.device_pulls import DevicePulls
from sanderling.hub.events import RETENTION_S, EventStream
from sanderling.hub.identities import Identities
from sanderling.hub.images import find_images
from sanderling.hub.mqtt_endpoint import MqttEndpoint, MqttServer
from sanderling.hub.parts import Parts
from sanderling.hub.rest_edge import Guard
from sanderling.hub.rest_registry import RegistryRoutes
from sanderling.hub.rest_twins import TwinRoutes
from sanderling.hub.sessions import Sessions
from sanderling.hub.twins import Twins
from sanderling.iot import ConnectionString, TwinLimits


class Hub:
    """Devices, their twins, deployments, methods and messages.

    *check_image* is asked for every image of a deployment and raises NotFound or Invalid for one that cannot be
    pulled. *bearer* knows the server's own tokens: it returns the rights (`access.ALL_RIGHTS` or fewer) of the token's
    owner, or None. *device_deleted* is called with the id of a device that was. *random_bytes* makes keys. Close the
    hub when done: it stores what waits.
    """

    def __init__(
        self,
        engine: Engine,
        check_image: Callable[[str], None] | None = None,
        bearer: Callable[[str], Collection[str] | None] | None = None,
        *,
        device_deleted: Callable[[str], None] = lambda _: None,
        twin_limits: TwinLimits | None = None,
        event_retention_s: float = RETENTION_S,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        tables.metadata.create_all(engine)
        self._engine = engine
        self.identities = Identities(engine, random_bytes, clock)
        self.twins = Twins(engine, twin_limits or TwinLimits(), clock)
        self.events = EventStream(engine, clock, retention_s=event_retention_s)
        self.connections = Connections()
        self.pulls = DevicePulls(engine, clock)
        self._access = Access(engine, random_bytes, bearer, clock)
        self._parts = Parts(
            access=self._access,
            connections=self.connections,
            deployments=Deployments(engine, self.identities, self.twins, check_image),
            events=self.events,
            identities=self.identities,
            sessions=Sessions(engine),
            twins=self.twins,
            clock=clock,
            device_deleted=device_deleted,
        )

    def rest_routes(self) -> list[BaseRoute]:
        """Return the routes of IoT Hub's REST API, to be mounted at the root."""
        guard = Guard(self._access)
        return [*TwinRoutes(self._parts).routes(guard), *RegistryRoutes(self._parts).routes(guard)]

    def mqtt_server(
        self, host: str, port: int, ssl_context: ssl.SSLContext | None
    ) -> AbstractAsyncContextManager[MqttServer]:
        """Listen for devices while the context is open; port 0 takes a free one, which `MqttServer.port` tells.

        The context must allow TLS 1.2: azure-iot-device speaks nothing newer.
        """
        return MqttEndpoint(self._parts).serve(host, port, ssl_context)

    def connection_string(self, policy: str, host_name: str) -> str:
        """Return the connection string of a policy, secret included. Raises NotFound. Blocks."""
        key = self._access.policy_key(policy)
        return ConnectionString(host_name, shared_access_key_name=policy, shared_access_key=key).format()

    def device_connection_string(self, device_id: str, host_name: str, module_id: str | None = None) -> str:
        """Return the connection string of a device or module, secret included. Raises NotFound. Blocks."""
        identity = self.identities.get(device_id, module_id)
        return ConnectionString(host_name, device_id, module_id, identity.primary_key).format()

    def images(self) -> set[str]:
        """Return the images that any device runs or is to run: references, and digests alone. Blocks."""
        return find_images(self._engine)

    def close(self) -> None:
        """Store the messages that wait, and stop. Blocks."""
        self.events.close()
