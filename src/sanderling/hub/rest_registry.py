"""REST: devices and modules, deployments for one device, statistics."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sanderling.errors import Invalid
from sanderling.hub.access import REGISTRY_READ, REGISTRY_WRITE, SERVICE_CONNECT
from sanderling.hub.identities import Identity
from sanderling.hub.parts import Parts
from sanderling.hub.rest_edge import Guard, if_match, read_object
from sanderling.hub.views import device_json, module_json, read_identity

_MAX_LISTED = 1000


class RegistryRoutes:
    """Handlers of ``/devices`` and what is below it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._identities = parts.identities

    def routes(self, guard: Guard) -> list[Route]:
        """Return the routes."""
        device, modules = "/devices/{device}", "/devices/{device}/modules"
        return [
            guard.route("/devices", "GET", REGISTRY_READ, self.list_devices),
            guard.route(device, "GET", REGISTRY_READ, self.get, device_may=True),
            guard.route(device, "PUT", REGISTRY_WRITE, self.put),
            guard.route(device, "DELETE", REGISTRY_WRITE, self.delete),
            guard.route(modules, "GET", REGISTRY_READ, self.list_modules, device_may=True),
            guard.route(modules + "/{module}", "GET", REGISTRY_READ, self.get, device_may=True),
            guard.route(modules + "/{module}", "PUT", REGISTRY_WRITE, self.put, device_may=True),
            guard.route(modules + "/{module}", "DELETE", REGISTRY_WRITE, self.delete, device_may=True),
            guard.route(device + "/applyConfigurationContent", "POST", REGISTRY_WRITE, self.apply),
            guard.route("/statistics/devices", "GET", REGISTRY_READ, self.device_statistics),
            guard.route("/statistics/service", "GET", SERVICE_CONNECT, self.service_statistics),
        ]

    async def list_devices(self, request: Request) -> Response:
        """GET /devices?top=n: at most 1000, by id."""
        text = request.query_params.get("top") or str(_MAX_LISTED)
        if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _MAX_LISTED):
            raise Invalid(f"'top' is a number from 1 to {_MAX_LISTED}")
        found = await asyncio.to_thread(self._identities.devices, limit=int(text))
        return JSONResponse([self._view(device) for device in found])

    async def list_modules(self, request: Request) -> Response:
        """GET /devices/{device}/modules."""
        found = await asyncio.to_thread(self._identities.modules, request.path_params["device"])
        return JSONResponse([self._view(module) for module in found])

    async def get(self, request: Request) -> Response:
        """GET a device or module."""
        return self._answer(await asyncio.to_thread(self._identities.get, *_ids(request)))

    async def put(self, request: Request) -> Response:
        """PUT: without If-Match it makes, with If-Match it changes. 200 in both cases, as clients expect."""
        device_id, module_id = _ids(request)
        change = read_identity(await read_object(request), device_id, module_id)
        etag = if_match(request)
        if etag is None:
            return self._answer(await asyncio.to_thread(self._identities.create, device_id, module_id, change))
        before = await asyncio.to_thread(self._identities.get, device_id, module_id)
        after = await asyncio.to_thread(self._identities.update, device_id, module_id, change, if_match=etag)
        if not after.is_enabled:
            self._parts.connections.drop(device_id, module_id, "it was disabled")
        elif after.keys != before.keys:
            # Whoever has the old key may be a thief, and chose himself when his token ends.
            self._parts.connections.drop(device_id, module_id, "its keys changed")
        return self._answer(after)

    async def delete(self, request: Request) -> Response:
        """DELETE a device with its modules, or a module."""
        device_id, module_id = _ids(request)
        await asyncio.to_thread(self._identities.delete, device_id, module_id, if_match=if_match(request))
        self._parts.connections.drop(device_id, module_id, "it was deleted")
        if module_id is None:
            await asyncio.to_thread(self._parts.device_deleted, device_id)
        return Response(status_code=204)

    async def apply(self, request: Request) -> Response:
        """POST a deployment manifest for one device."""
        content = await read_object(request, what="the manifest")
        changes = await asyncio.to_thread(self._parts.deployments.apply, request.path_params["device"], content)
        for change in changes:
            self._parts.connections.send_desired(change)
        return Response(status_code=204)

    async def device_statistics(self, request: Request) -> Response:
        """GET how many devices there are."""
        total, enabled = await asyncio.to_thread(self._identities.count_devices)
        counts = {"totalDeviceCount": total, "enabledDeviceCount": enabled, "disabledDeviceCount": total - enabled}
        return JSONResponse(counts)

    async def service_statistics(self, request: Request) -> Response:
        """GET how many devices and modules are connected."""
        return JSONResponse({"connectedDeviceCount": self._parts.connections.count()})

    def _answer(self, identity: Identity) -> Response:
        return JSONResponse(self._view(identity), headers={"ETag": f'"{identity.etag}"'})

    def _view(self, identity: Identity) -> dict[str, object]:
        is_connected = self._parts.connections.is_connected(identity.device_id, identity.module_id)
        view = device_json if identity.module_id is None else module_json
        return view(identity, is_connected=is_connected)


def _ids(request: Request) -> tuple[str, str | None]:
    return request.path_params["device"], request.path_params.get("module")
