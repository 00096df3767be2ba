"""The identities of this device: its modules and their keys, as the hub has them.

They come by HTTPS with the device's own signature, and are kept on disk (0600),
so that after one sync modules sign in and sign without the hub, for ever.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from sanderling.edge.disk import find_json, write_json
from sanderling.edge.layout import Layout
from sanderling.edge.trouble import why_unreachable
from sanderling.errors import Denied, NotFound, Unavailable
from sanderling.iot import ConnectionString, sas
from sanderling.iot.identity import is_valid_id
from sanderling.transfer import close_cancelled

_log = logging.getLogger(__name__)

_API = "?api-version=2021-04-12"
_TOKEN_S = 600
_ASK_EVERY_S = 2.0
_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_MAX_MODULES = 1000


@dataclass(frozen=True, slots=True)
class ModuleIdentity:
    """One module of this device. Keys are base64, as the hub gives them."""

    module_id: str
    generation_id: str
    primary_key: str = field(repr=False)
    secondary_key: str = field(repr=False)

    @property
    def keys(self) -> tuple[str, ...]:
        """Both keys, for checking a signature."""
        return tuple(key for key in (self.primary_key, self.secondary_key) if key)


class Identities:
    """The identities of one device, asked from the hub and remembered."""

    def __init__(
        self,
        layout: Layout,
        connection: ConnectionString,
        tls: ssl.SSLContext,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """*connection* is the device's own, with its key."""
        assert connection.device_id is not None
        self.device_id = connection.device_id
        self._path = layout.identities
        self._connection = connection
        self._tls = tls
        self._clock = clock
        self._synced_at: float | None = None
        self._lock = asyncio.Lock()
        self._modules = self._load()

    def find(self, module_id: str) -> ModuleIdentity | None:
        """Return what is remembered of *module_id*."""
        return self._modules.get(module_id)

    def names(self) -> list[str]:
        """Return the modules that are known."""
        return sorted(self._modules)

    async def sync(self) -> None:
        """Ask the hub for all modules of this device.

        Callers that come together share an answer, and the hub is asked every two
        seconds at most: a caller waits. Raises `Unavailable`, or `Denied` when the
        hub does not take the device's key.
        """
        asked_at = self._clock()
        async with self._lock:
            if self._synced_at is not None:
                if self._synced_at > asked_at:
                    return
                await asyncio.sleep(min(max(self._synced_at + _ASK_EVERY_S - self._clock(), 0.0), _ASK_EVERY_S))
            began_at = self._clock()
            answer = await self._ask("GET", f"/devices/{quote(self.device_id, safe='')}/modules{_API}")
            if not isinstance(answer, list):
                raise Unavailable("the hub answered something that is no list of modules")
            modules = [_identity(item) for item in answer[:_MAX_MODULES] if isinstance(item, dict)]
            self._synced_at = began_at
            await self._remember({module.module_id: module for module in modules if module is not None})

    async def ensure(self, module_id: str) -> ModuleIdentity:
        """Return the identity of *module_id*, made in the hub when it is not there.

        Without the hub what is remembered is returned; raises `Unavailable` when there is nothing.
        """
        known = self.find(module_id)
        if known is not None:
            return known
        async with self._lock:
            path = f"/devices/{quote(self.device_id, safe='')}/modules/{quote(module_id, safe='')}{_API}"
            try:
                answer = await self._ask("GET", path)
            except NotFound:
                body = {
                    "deviceId": self.device_id,
                    "moduleId": module_id,
                    "managedBy": "IotEdge",
                    "authentication": {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}},
                }
                answer = await self._ask("PUT", path, body)
            identity = _identity(answer) if isinstance(answer, dict) else None
            if identity is None or identity.module_id != module_id:
                raise Unavailable(f"the hub answered without an identity for module {module_id!r}")
            await self._remember({**self._modules, module_id: identity})
            return identity

    async def _remember(self, modules: dict[str, ModuleIdentity]) -> None:
        if modules == self._modules:
            return
        self._modules = modules
        document = {
            "deviceId": self.device_id,
            "modules": {
                m.module_id: {
                    "generationId": m.generation_id,
                    "primaryKey": m.primary_key,
                    "secondaryKey": m.secondary_key,
                }
                for m in modules.values()
            },
        }
        await asyncio.to_thread(write_json, self._path, document)

    def _load(self) -> dict[str, ModuleIdentity]:
        document = find_json(self._path)
        if not isinstance(document, dict) or document.get("deviceId") != self.device_id:
            return {}
        return {
            name: ModuleIdentity(name, entry["generationId"], entry["primaryKey"], entry["secondaryKey"])
            for name, entry in document["modules"].items()
        }

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        host = self._connection.host_name
        resource = f"{host}/devices/{self.device_id}"
        token = sas.build(resource, self._connection.shared_access_key or "", int(self._clock()) + _TOKEN_S)
        url = f"https://{host}{path}"
        try:
            async with close_cancelled(httpx.AsyncClient(verify=self._tls, timeout=20.0)) as http:
                response = await http.request(method, url, json=body, headers={"Authorization": token})
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise Unavailable(f"the hub {host} cannot be reached: {why_unreachable(e)}") from e
        if response.status_code == 404:
            raise NotFound(f"the hub {host} does not know {path.partition('?')[0]}")
        if response.status_code in (401, 403):
            raise Denied(
                f"the hub {host} refuses device {self.device_id!r}: was its key regenerated, or is it disabled?"
            )
        if response.status_code >= 300 or len(response.content) > _MAX_ANSWER_BYTES:
            raise Unavailable(f"the hub {host} answered {response.status_code}")
        try:
            return response.json()
        except ValueError as e:
            raise Unavailable(f"the hub {host} answered no JSON") from e


def _identity(document: dict[str, Any]) -> ModuleIdentity | None:
    module_id = document.get("moduleId")
    authentication = document.get("authentication")
    keys = authentication.get("symmetricKey") if isinstance(authentication, dict) else None
    if not isinstance(module_id, str) or not is_valid_id(module_id):
        return None
    keys = keys if isinstance(keys, dict) else {}
    primary, secondary = (keys.get(name) for name in ("primaryKey", "secondaryKey"))
    generation = document.get("generationId")
    return ModuleIdentity(
        module_id,
        generation if isinstance(generation, str) else "",
        primary if isinstance(primary, str) else "",
        secondary if isinstance(secondary, str) else "",
    )
