"""REST: devices, modules, deployments; who may do what, and what errors look like."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from sanderling.hub import Hub
from sanderling.hub.identities import MAX_MODULES, IdentityChange
from sanderling.iot import ConnectionString, sas
from tests.hub.world import Clock

pytestmark = pytest.mark.anyio
Sign = Callable[[str], str]


def manifest(image: str = "localhost/cam:1", **modules: Any) -> dict[str, Any]:
    agent = {
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {}},
        "systemModules": {},
        "modules": {"cam": {"settings": {"image": image}}},
    }
    hub = {"schemaVersion": "1.1", "routes": {"up": "FROM /messages/* INTO $upstream"}}
    twins = {name: {"properties.desired": desired} for name, desired in modules.items()}
    return {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": agent},
            "$edgeHub": {"properties.desired": hub},
            **twins,
        }
    }


async def make(rest: httpx.AsyncClient, device_id: str, *, is_edge: bool = False) -> dict[str, Any]:
    body = {"deviceId": device_id, "capabilities": {"iotEdge": is_edge}}
    answer = await rest.put(f"/devices/{device_id}?api-version=2021-04-12", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_device_is_made_with_keys_read_listed_and_deleted(rest: httpx.AsyncClient) -> None:
    made = await make(rest, "d1")
    assert made["status"] == "enabled"
    assert made["connectionState"] == "Disconnected"
    assert len(made["authentication"]["symmetricKey"]["primaryKey"]) == 44
    got = await rest.get("/devices/d1")
    assert got.json() == made
    assert got.headers["etag"] == f'"{made["etag"]}"'
    await make(rest, "d0")
    assert [d["deviceId"] for d in (await rest.get("/devices")).json()] == ["d0", "d1"]
    assert [d["deviceId"] for d in (await rest.get("/devices?top=1")).json()] == ["d0"]
    assert (await rest.delete("/devices/d1", headers={"If-Match": "*"})).status_code == 204
    assert (await rest.get("/devices/d1")).status_code == 404
    again = await make(rest, "d1")
    assert again["generationId"] != made["generationId"]
    assert again["etag"] != made["etag"]


async def test_given_keys_are_kept(rest: httpx.AsyncClient) -> None:
    key = "a2V5a2V5a2V5a2V5a2V5a2V5"
    body = {"authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": ""}}}
    made = (await rest.put("/devices/d1", json=body)).json()
    assert made["authentication"]["symmetricKey"]["primaryKey"] == key
    assert made["authentication"]["symmetricKey"]["secondaryKey"]


async def test_an_edge_device_comes_with_its_system_modules(rest: httpx.AsyncClient) -> None:
    made = await make(rest, "e1", is_edge=True)
    assert made["capabilities"] == {"iotEdge": True}
    modules = (await rest.get("/devices/e1/modules")).json()
    assert [m["moduleId"] for m in modules] == ["$edgeAgent", "$edgeHub"]
    assert (await rest.get("/devices/e1/modules/%24edgeAgent")).json()["managedBy"] == "IotEdge"


async def test_an_update_needs_the_current_etag(rest: httpx.AsyncClient) -> None:
    made = await make(rest, "d1")
    body = {"deviceId": "d1", "status": "disabled", "statusReason": "lost"}
    stale = await rest.put("/devices/d1", json=body, headers={"If-Match": '"stale"'})
    assert (stale.status_code, stale.headers["iothub-errorcode"]) == (412, "PreconditionFailed")
    done = await rest.put("/devices/d1", json=body, headers={"If-Match": f'"{made["etag"]}"'})
    assert (done.json()["status"], done.json()["statusReason"]) == ("disabled", "lost")
    assert done.json()["authentication"] == made["authentication"]
    assert done.json()["etag"] != made["etag"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/devices/none", None, 404, "DeviceNotFound"),
        ("GET", "/devices/d1/modules/none", None, 404, "ModuleNotFound"),
        ("GET", "/devices/none/modules", None, 404, "DeviceNotFound"),
        ("GET", "/twins/none", None, 404, "DeviceNotFound"),
        ("PUT", "/devices/d1", {}, 409, "DeviceAlreadyExists"),
        ("PUT", "/devices/e1/modules/$edgeHub", {}, 409, "ModuleAlreadyExistsOnDevice"),
        ("PUT", "/devices/none/modules/m", {}, 404, "DeviceNotFound"),
        ("PUT", "/devices/d2", {"deviceId": "other"}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d2", {"status": "maybe"}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d2", {"statusReason": 5}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d2", {"capabilities": []}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d2", {"capabilities": {"iotEdge": "yes"}}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d2", {"authentication": {"type": "selfSigned"}}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d2", {"authentication": {"symmetricKey": {"primaryKey": "%"}}}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d2", {"authentication": {"symmetricKey": {"primaryKey": "a2V5"}}}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/a%20b", {}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d1/modules/m", {"capabilities": {"iotEdge": True}}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/d2", [1], 400, "ArgumentInvalid"),
        ("GET", "/devices?top=0", None, 400, "ArgumentInvalid"),
        ("GET", "/devices?top=x", None, 400, "ArgumentInvalid"),
    ],
)
async def test_what_cannot_be_is_answered_in_iot_hubs_words_and_ours(
    rest: httpx.AsyncClient, method: str, path: str, body: object, status: int, code: str
) -> None:
    await make(rest, "d1")
    await make(rest, "e1", is_edge=True)
    answer = await rest.request(method, path, json=body)
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (status, code)
    fault = answer.json()
    assert fault["Message"].startswith(f"ErrorCode:{code};")
    assert fault["errorCode"] // 1000 == status
    assert fault["error"]["message"]
    assert [d["deviceId"] for d in (await rest.get("/devices")).json()] == ["d1", "e1"]


async def test_a_body_over_the_limit_is_refused(rest: httpx.AsyncClient) -> None:
    answer = await rest.put("/devices/d1", content=b" " * (4 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (413, "MessageTooLarge")


async def test_an_edge_device_does_not_become_a_plain_one(rest: httpx.AsyncClient) -> None:
    await make(rest, "e1", is_edge=True)
    body = {"capabilities": {"iotEdge": False}}
    assert (await rest.put("/devices/e1", json=body, headers={"If-Match": "*"})).status_code == 400


async def test_a_plain_device_becomes_an_edge_device(rest: httpx.AsyncClient) -> None:
    await make(rest, "d1")
    body = {"capabilities": {"iotEdge": True}}
    assert (await rest.put("/devices/d1", json=body, headers={"If-Match": "*"})).status_code == 200
    assert len((await rest.get("/devices/d1/modules")).json()) == 2


async def test_statistics_count_devices(rest: httpx.AsyncClient) -> None:
    await make(rest, "d1")
    await rest.put("/devices/d2", json={"status": "disabled"})
    counts = {"totalDeviceCount": 2, "enabledDeviceCount": 1, "disabledDeviceCount": 1}
    assert (await rest.get("/statistics/devices")).json() == counts
    assert (await rest.get("/statistics/service")).json() == {"connectedDeviceCount": 0}


@pytest.mark.parametrize(
    ("policy", "method", "path", "status"),
    [
        ("iothubowner", "GET", "/devices", 200),
        ("registryRead", "GET", "/devices", 200),
        ("registryRead", "PUT", "/devices/d2", 403),
        ("registryReadWrite", "PUT", "/devices/d2", 200),
        ("service", "GET", "/devices", 403),
        ("service", "GET", "/twins/d1", 200),
        ("registryRead", "GET", "/twins/d1", 403),
        ("device", "GET", "/devices", 403),
    ],
)
async def test_a_policy_does_what_its_rights_say(
    rest: httpx.AsyncClient, policy_token: Sign, policy: str, method: str, path: str, status: int
) -> None:
    await make(rest, "d1")
    headers = {"Authorization": policy_token(policy)}
    answer = await rest.request(method, path, headers=headers, json={} if method == "PUT" else None)
    assert answer.status_code == status


async def test_an_unknown_caller_is_refused(
    rest: httpx.AsyncClient, hub: Hub, clock: Clock, policy_token: Sign
) -> None:
    device = hub.identities.create("d1")
    good = policy_token("service")
    key = ConnectionString.parse(hub.connection_string("service", "h")).shared_access_key or ""
    headers = [
        "",
        "Bearer stranger",
        "Basic eDp5",
        "SharedAccessSignature nonsense",
        sas.build("h", key, int(clock()) - 1, "service"),
        sas.build("h", device.primary_key, int(clock()) + 60, "service"),
        sas.build("h", key, int(clock()) + 60, "no such policy"),
        sas.build("h", key, int(clock()) + 60),
        sas.build("h/devices/d1", key, int(clock()) + 60, "service"),
        sas.build("h/devices/d2", device.primary_key, int(clock()) + 60),
        sas.build("h/devices/d1/modules/m", device.primary_key, int(clock()) + 60),
        good[:-1],
    ]
    for header in headers:
        answer = await rest.get("/twins/d1", headers={"Authorization": header})
        assert answer.status_code == 401, header[:30]
        assert answer.json()["error"]["code"] == "unauthenticated"
        assert "sig=" not in answer.text


async def test_a_bearer_has_the_rights_that_the_server_says(rest: httpx.AsyncClient) -> None:
    await make(rest, "d1")
    reader = {"Authorization": "Bearer reader"}
    assert (await rest.get("/devices/d1", headers=reader)).status_code == 200
    refused = await rest.delete("/devices/d1", headers=reader)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "denied")


async def test_a_device_manages_its_own_modules_and_nothing_else(
    rest: httpx.AsyncClient, hub: Hub, clock: Clock
) -> None:
    device = hub.identities.create("e1", None, IdentityChange(is_edge=True))
    hub.identities.create("d2")
    headers = {"Authorization": sas.build("h/devices/e1", device.primary_key, int(clock()) + 60)}

    async def status(method: str, path: str, body: object = None) -> int:
        return (await rest.request(method, path, json=body, headers=headers)).status_code

    assert await status("GET", "/devices/e1/modules") == 200
    assert await status("GET", "/devices/e1/modules/$edgeHub") == 200
    assert await status("PUT", "/devices/e1/modules/m", {"managedBy": "IotEdge"}) == 200
    assert await status("DELETE", "/devices/e1/modules/m") == 204
    assert await status("GET", "/devices/e1") == 200
    assert await status("PUT", "/devices/e1", {}) == 403
    assert await status("DELETE", "/devices/e1") == 403
    assert await status("GET", "/devices") == 403
    assert await status("GET", "/devices/d2/modules") == 403
    assert await status("PUT", "/devices/d2/modules/m", {}) == 403
    assert await status("GET", "/twins/e1") == 403
    hub.identities.update("e1", None, IdentityChange(is_enabled=False))
    assert await status("GET", "/devices/e1/modules") == 401


async def test_a_deployment_sets_the_twins_and_makes_the_modules(rest: httpx.AsyncClient, hub: Hub) -> None:
    await make(rest, "e1", is_edge=True)
    answer = await rest.post("/devices/e1/applyConfigurationContent", json=manifest(cam={"rate": 5}))
    assert answer.status_code == 204
    assert hub.twins.get("e1", "cam").desired.values == {"rate": 5}
    assert hub.identities.get("e1", "cam").managed_by == "IotEdge"
    agent = hub.twins.get("e1", "$edgeAgent").desired
    assert (agent.version, agent.values["modules"]["cam"]["settings"]["image"]) == (2, "localhost/cam:1")
    await rest.post("/devices/e1/applyConfigurationContent", json=manifest(cam={"speed": 1}))
    assert hub.twins.get("e1", "cam").desired.values == {"speed": 1}


async def test_a_deployment_that_cannot_be_changes_nothing_and_says_why(rest: httpx.AsyncClient, hub: Hub) -> None:
    await make(rest, "e1", is_edge=True)
    await make(rest, "d1")
    too_large = manifest(cam={f"k{n}": "x" * 60_000 for n in range(30)})
    bad = [
        ("e1", manifest("localhost/missing:1"), "'cam'.*localhost/missing:1.*was it pushed"),
        ("e1", manifest(""), "'cam'.*image"),
        ("e1", {}, "modulesContent"),
        ("e1", too_large, "limit"),
        ("e1", manifest(**{"a/b": {}}), "a/b"),
        ("d1", manifest(), "not an edge device"),
    ]
    for device_id, content, message in bad:
        answer = await rest.post(f"/devices/{device_id}/applyConfigurationContent", json=content)
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
        assert re.search(message, answer.json()["error"]["message"])
    assert hub.twins.get("e1", "$edgeAgent").desired.version == 1
    assert [m.module_id for m in hub.identities.modules("e1")] == ["$edgeAgent", "$edgeHub"]
    unknown = await rest.post("/devices/none/applyConfigurationContent", json=manifest())
    assert unknown.status_code == 404


async def test_a_broken_database_is_trouble_and_not_the_callers_fault(rest: httpx.AsyncClient, engine: Engine) -> None:
    with engine.begin() as db:
        db.execute(text("ALTER TABLE hub_identities RENAME TO gone"))
    answer = await rest.get("/devices")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


async def test_connection_strings_open_the_hub(hub: Hub) -> None:
    device = hub.identities.create("d1")
    parsed = ConnectionString.parse(hub.device_connection_string("d1", "localhost:8443"))
    assert (parsed.device_id, parsed.shared_access_key, parsed.https_port) == ("d1", device.primary_key, 8443)
    assert ConnectionString.parse(hub.connection_string("service", "h")).shared_access_key_name == "service"
    assert "primary_key" not in repr(device)


async def test_a_device_cannot_make_modules_without_end(hub: Hub, rest: httpx.AsyncClient, clock: Clock) -> None:
    made = await make(rest, "d1", is_edge=True)
    key = made["authentication"]["symmetricKey"]["primaryKey"]
    headers = {"Authorization": sas.build("hub/devices/d1", key, int(clock()) + 60)}
    codes = []
    for number in range(MAX_MODULES):
        body = {"deviceId": "d1", "moduleId": f"m{number}"}
        codes.append((await rest.put(f"/devices/d1/modules/m{number}", json=body, headers=headers)).status_code)
    assert codes == [200] * (MAX_MODULES - 2) + [400] * 2  # it has its two system modules
    assert len(hub.identities.modules("d1")) == MAX_MODULES
