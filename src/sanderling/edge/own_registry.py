"""The hub's own registry, at which a device signs in with the identity it has at the hub.

So the deployment manifest needs no password for it. What is sent is a signature that
ends within the hour, and only to the registry that the hub itself names as its own.
"""

import time
from collections.abc import Callable
from urllib.parse import quote

from sanderling.edge.discovery import Discovery
from sanderling.iot import ConnectionString, RegistryCredential, sas

NAME = "the device's own identity"
_SIGNATURE_S = 3600


class OwnRegistry:
    """Gives the credential for the hub's registry."""

    def __init__(
        self, connection: ConnectionString, discovery: Discovery, clock: Callable[[], float] = time.time
    ) -> None:
        """*connection* is the device's own, with its key."""
        self._connection, self._discovery, self._clock = connection, discovery, clock

    async def find_credential(self, registry: str) -> RegistryCredential | None:
        """Return the device's credential when *registry* is its hub's, else None."""
        login_server = await self._discovery.fetch_login_server()
        if login_server is None or registry.lower() != login_server.lower():
            return None
        device_id = self._connection.device_id or ""
        resource = f"{self._connection.host_name}/devices/{device_id}"
        key = self._connection.shared_access_key or ""
        password = sas.build(resource, key, int(self._clock()) + _SIGNATURE_S)
        # RFC 7617: a user's name has no colon, and a device's may.
        return RegistryCredential(NAME, registry, quote(device_id, safe=""), password)
