"""REST: twins, queries and direct methods."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from sanderling.hub import Hub
from sanderling.hub.identities import IdentityChange
from sanderling.iot import topics
from tests.hub.world import Device, connect_packet

pytestmark = pytest.mark.anyio


@pytest.fixture
async def device(hub: Hub) -> AsyncIterator[Device]:
    """Device d1, connected."""
    hub.identities.create("d1")
    async with hub.mqtt_server("127.0.0.1", 0, None) as server:
        device = await Device.connect(server.port, connect_packet(hub, "d1"))
        yield device
        await device.close()


async def test_a_twin_is_patched_and_replaced(rest: httpx.AsyncClient, hub: Hub) -> None:
    hub.identities.create("d1")
    first = (await rest.get("/twins/d1")).json()
    assert (first["tags"], first["properties"]["desired"]["$version"], first["version"]) == ({}, 1, 1)
    patch = {"tags": {"site": "n"}, "properties": {"desired": {"a": 1, "b": {"c": 2}}}}
    answer = await rest.patch("/twins/d1", json=patch, headers={"If-Match": f'"{first["etag"]}"'})
    assert answer.status_code == 200
    assert answer.headers["etag"] == f'"{answer.json()["etag"]}"'
    patched = (await rest.patch("/twins/d1", json={"tags": {"x": 1}, "properties": {"desired": {"b": None}}})).json()
    assert patched["tags"] == {"site": "n", "x": 1}
    assert patched["properties"]["desired"]["$version"] == 3
    assert "b" not in patched["properties"]["desired"]
    assert patched["properties"]["desired"]["$metadata"]["a"]["$lastUpdatedVersion"] == 2
    stale = await rest.patch("/twins/d1", json=patch, headers={"If-Match": first["etag"]})
    assert stale.status_code == 412
    replaced = (await rest.put("/twins/d1", json={"properties": {"desired": {"z": 1}}})).json()
    assert replaced["tags"] == {}
    assert {k: v for k, v in replaced["properties"]["desired"].items() if k[0] != "$"} == {"z": 1}


async def test_tags_alone_leave_the_desired_version(rest: httpx.AsyncClient, hub: Hub) -> None:
    hub.identities.create("d1")
    patched = (await rest.patch("/twins/d1", json={"tags": {"a": 1}})).json()
    assert (patched["version"], patched["properties"]["desired"]["$version"]) == (2, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"tags": []},
        {"tags": {"a.b": 1}},
        {"tags": {"a": "x" * 65_000, "b": "x" * 65_000}},
        {"properties": []},
        {"properties": {"desired": 5}},
        {"properties": {"desired": {"a b": 1}}},
    ],
)
async def test_a_bad_patch_changes_nothing(rest: httpx.AsyncClient, hub: Hub, body: object) -> None:
    hub.identities.create("d1")
    for method in ("PATCH", "PUT"):
        assert (await rest.request(method, "/twins/d1", json=body)).status_code == 400
    assert hub.twins.get("d1").version == 1


async def test_a_module_twin_has_its_own_path(rest: httpx.AsyncClient, hub: Hub) -> None:
    hub.identities.create("e1", None, IdentityChange(is_edge=True))
    patch = {"properties": {"desired": {"a": 1}}}
    patched = (await rest.patch("/twins/e1/modules/%24edgeHub", json=patch)).json()
    assert patched["moduleId"] == "$edgeHub"
    assert (await rest.get("/twins/e1")).json()["capabilities"] == {"iotEdge": True}


async def test_a_connected_device_sees_each_change_of_its_desired_properties(
    rest: httpx.AsyncClient, device: Device
) -> None:
    await device.subscribe(topics.DESIRED_PATCHES)
    await rest.patch("/twins/d1", json={"properties": {"desired": {"a": 1, "b": {"x": 1, "y": 2}}}})
    await rest.put("/twins/d1", json={"properties": {"desired": {"b": {"y": 2}}}})
    first = (await device.message("$iothub/twin/PATCH/properties/desired/?$version=2")).publish
    second = (await device.message("$iothub/twin/PATCH/properties/desired/?$version=3")).publish
    assert json.loads(first.payload) == {"a": 1, "b": {"x": 1, "y": 2}, "$version": 2}
    assert json.loads(second.payload) == {"a": None, "b": {"x": None}, "$version": 3}
    assert first.qos == 1
    twin = (await rest.get("/twins/d1")).json()
    assert twin["connectionState"] == "Connected"


async def test_a_direct_method_travels_to_the_device_and_back(rest: httpx.AsyncClient, device: Device) -> None:
    await device.subscribe(topics.METHOD_REQUESTS)
    asked = asyncio.create_task(rest.post("/twins/d1/methods", json={"methodName": "re/boot", "payload": [1]}))
    request = (await device.message("$iothub/methods/POST/")).publish
    parsed = topics.parse_downward(request.topic)
    assert isinstance(parsed, topics.MethodRequest)
    assert (parsed.name, request.payload) == ("re/boot", b"[1]")
    await device.publish(topics.method_response_topic(200, parsed.request_id), b'{"ok":true}', qos=0)
    assert (await asked).json() == {"status": 200, "payload": {"ok": True}}


async def test_a_method_on_a_device_that_is_away_or_does_not_listen_is_404(
    rest: httpx.AsyncClient, hub: Hub, device: Device
) -> None:
    hub.identities.create("d2")
    for name in ("d1", "d2"):
        answer = await rest.post(f"/twins/{name}/methods", json={"methodName": "m"})
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (404, "DeviceNotOnline")
    unknown = await rest.post("/twins/none/methods", json={"methodName": "m"})
    assert unknown.headers["iothub-errorcode"] == "DeviceNotFound"


async def test_a_method_without_an_answer_times_out(hub: Hub, device: Device) -> None:
    from sanderling.hub.errors import DeviceNotOnline, MethodTimeout

    await device.subscribe(topics.METHOD_REQUESTS)
    client = hub.connections.find("d1")
    assert client is not None
    with pytest.raises(MethodTimeout):
        await client.invoke("m", b"null", 0.1)
    asked = asyncio.create_task(client.invoke("m", b"null", 5))
    await device.message("$iothub/methods/POST/")
    await device.close()
    with pytest.raises(DeviceNotOnline):
        await asked


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"methodName": ""},
        {"methodName": "m", "responseTimeoutInSeconds": 1},
        {"methodName": "m", "connectTimeoutInSeconds": "5"},
        {"methodName": "m", "payload": "x" * 140_000},
    ],
)
async def test_a_bad_method_call_is_refused(rest: httpx.AsyncClient, hub: Hub, body: object) -> None:
    hub.identities.create("d1")
    assert (await rest.post("/twins/d1/methods", json=body)).status_code == 400


async def test_a_query_comes_page_by_page(rest: httpx.AsyncClient, hub: Hub) -> None:
    for number in range(5):
        hub.identities.create(f"d{number}", None, IdentityChange(is_edge=number == 4))
    seen: list[str] = []
    headers = {"x-ms-max-item-count": "2"}
    while True:
        answer = await rest.post("/devices/query", json={"query": "select * from devices"}, headers=headers)
        assert answer.headers["x-ms-item-type"] == "Twin"
        seen += [twin["deviceId"] for twin in answer.json()]
        if "x-ms-continuation" not in answer.headers:
            break
        headers["x-ms-continuation"] = answer.headers["x-ms-continuation"]
    assert seen == [f"d{number}" for number in range(5)]
    one = await rest.post("/devices/query", json={"query": "SELECT * FROM devices.modules WHERE deviceId = 'd4'"})
    assert [twin["moduleId"] for twin in one.json()] == ["$edgeAgent", "$edgeHub"]
    none = await rest.post("/devices/query", json={"query": "SELECT * FROM devices WHERE deviceId = 'x'"})
    assert none.json() == []


async def test_a_query_that_is_not_understood_is_refused(rest: httpx.AsyncClient) -> None:
    query = {"query": "SELECT * FROM devices"}
    assert (await rest.post("/devices/query", json={"query": "DROP TABLE"})).status_code == 400
    assert (await rest.post("/devices/query", json={})).status_code == 400
    for headers in ({"x-ms-max-item-count": "x"}, {"x-ms-continuation": "%"}):
        assert (await rest.post("/devices/query", json=query, headers=headers)).status_code == 400
