"""REST: twins, direct methods, and the smallest of the query language."""

import asyncio
import base64
import binascii
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sanderling.errors import Invalid
from sanderling.hub.access import SERVICE_CONNECT
from sanderling.hub.connections import Client
from sanderling.hub.errors import DeviceNotOnline
from sanderling.hub.parts import Parts
from sanderling.hub.rest_edge import Guard, if_match, read_object
from sanderling.hub.twins import DesiredChange, Twin
from sanderling.hub.views import twin_json
from sanderling.iot import documents
from sanderling.iot.identity import client_id

_QUERY = re.compile(
    r"SELECT\s+\*\s+FROM\s+devices(?P<modules>\.modules)?"
    r"(?:\s+WHERE\s+deviceId\s*=\s*(?P<quote>['\"])(?P<device>[^'\"]*)(?P=quote))?\s*;?",
    re.IGNORECASE,
)
_MAX_METHOD_BYTES = 128 * 1024
_MAX_PAGE = 1000
_POLL_S = 0.1


class TwinRoutes:
    """Handlers of ``/twins`` and ``/devices/query``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self, guard: Guard) -> list[Route]:
        """Return the routes; the query comes before a device could be named so."""
        found = [guard.route("/devices/query", "POST", SERVICE_CONNECT, self.query)]
        for path in ("/twins/{device}", "/twins/{device}/modules/{module}"):
            found += [
                guard.route(path, "GET", SERVICE_CONNECT, self.get),
                guard.route(path, "PATCH", SERVICE_CONNECT, self.patch),
                guard.route(path, "PUT", SERVICE_CONNECT, self.put),
                guard.route(path + "/methods", "POST", SERVICE_CONNECT, self.invoke),
            ]
        return found

    async def get(self, request: Request) -> Response:
        """GET a twin."""
        return self._answer(await asyncio.to_thread(self._view_by_id, *_ids(request)))

    async def patch(self, request: Request) -> Response:
        """PATCH tags and desired properties; null deletes."""
        document = await read_object(request)
        changed = await asyncio.to_thread(self._parts.twins.patch, *_ids(request), document, if_match=if_match(request))
        return await self._changed(changed)

    async def put(self, request: Request) -> Response:
        """PUT tags and desired properties in place of those that are there."""
        document = await read_object(request)
        changed = await asyncio.to_thread(
            self._parts.twins.replace, *_ids(request), document, if_match=if_match(request)
        )
        return await self._changed(changed)

    async def invoke(self, request: Request) -> Response:
        """POST a direct method; wait for the device's answer."""
        device_id, module_id = _ids(request)
        document = await read_object(request)
        name = document.get("methodName")
        if not isinstance(name, str) or not 0 < len(name) <= 100:
            raise Invalid("'methodName' is text of 1 to 100 characters")
        payload = documents.compact(document.get("payload"))
        if len(payload) > _MAX_METHOD_BYTES:
            raise Invalid(f"'payload' has {len(payload)} bytes; the limit is {_MAX_METHOD_BYTES}")
        timeout_s = _seconds(document, "responseTimeoutInSeconds", 30, 5, 300)
        connect_s = _seconds(document, "connectTimeoutInSeconds", 0, 0, 300)
        await asyncio.to_thread(self._parts.identities.get, device_id, module_id)
        client = await self._reach(device_id, module_id, connect_s)
        asked = asyncio.run_coroutine_threadsafe(client.invoke(name, payload, timeout_s), client.loop)
        status, answer = await asyncio.wrap_future(asked)
        value = documents.parse(answer, "the device's answer") if answer else None
        return JSONResponse({"status": status, "payload": value})

    async def query(self, request: Request) -> Response:
        """POST ``SELECT * FROM devices``, page by page."""
        document = await read_object(request)
        text = document.get("query")
        found = _QUERY.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is None:
            raise Invalid("this hub answers SELECT * FROM devices[.modules] [WHERE deviceId = '...'] so far")
        size_text = request.headers.get("x-ms-max-item-count") or str(_MAX_PAGE)
        if not (size_text.isascii() and size_text.isdigit() and int(size_text[:9]) > 0):
            raise Invalid("'x-ms-max-item-count' is a number from 1")
        after = _read_place(request.headers.get("x-ms-continuation"))
        views, place = await asyncio.to_thread(
            self._page, after, min(int(size_text), _MAX_PAGE), found["device"], found["modules"] is not None
        )
        headers = {"x-ms-item-type": "Twin"}
        if place is not None:
            headers["x-ms-continuation"] = base64.urlsafe_b64encode(place.encode()).decode()
        return JSONResponse(views, headers=headers)

    def _page(
        self, after: str, size: int, device_id: str | None, wants_modules: bool
    ) -> tuple[list[dict[str, Any]], str | None]:
        identities = self._parts.identities
        if device_id is not None:
            device = identities.find(device_id)
            devices = [] if device is None else [device]
        else:
            devices = identities.devices(after=after, limit=size)
        place = devices[-1].device_id if device_id is None and len(devices) == size else None
        if wants_modules:
            # A page is of devices: their modules come whole, and the page may be longer than was asked for.
            named = [module for device in devices for module in identities.modules(device.device_id)]
        else:
            named = devices
        return [self._view_by_id(one.device_id, one.module_id) for one in named], place

    async def _reach(self, device_id: str, module_id: str | None, connect_s: float) -> Client:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + connect_s
        while True:
            client = self._parts.connections.find(device_id, module_id)
            if client is not None and client.takes_methods:
                return client
            if loop.time() >= deadline:
                raise DeviceNotOnline(client_id(device_id, module_id))
            await asyncio.sleep(_POLL_S)

    async def _changed(self, changed: tuple[Twin, DesiredChange | None]) -> Response:
        twin, change = changed
        if change is not None:
            self._parts.connections.send_desired(change)
        return self._answer(await asyncio.to_thread(self._view, twin))

    def _answer(self, view: dict[str, Any]) -> Response:
        return JSONResponse(view, headers={"ETag": f'"{view["etag"]}"'})

    def _view_by_id(self, device_id: str, module_id: str | None) -> dict[str, Any]:
        return self._view(self._parts.twins.get(device_id, module_id))

    def _view(self, twin: Twin) -> dict[str, Any]:
        identity = self._parts.identities.get(twin.device_id, twin.module_id)
        is_connected = self._parts.connections.is_connected(twin.device_id, twin.module_id)
        return twin_json(twin, identity, is_connected=is_connected)


def _ids(request: Request) -> tuple[str, str | None]:
    return request.path_params["device"], request.path_params.get("module")


def _seconds(document: dict[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Invalid(f"{name!r} is a whole number from {least} to {most}")
    return value


def _read_place(header: str | None) -> str:
    if not header:
        return ""
    try:
        return base64.b64decode(header, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Invalid("'x-ms-continuation' is not one that this hub gave out") from error
