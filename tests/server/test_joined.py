"""The stages as one server joins them: what one of them makes, the others see."""

from __future__ import annotations

import json
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sanderling.demo.sensor import Identity, Reading, Sensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.conftest import RunningServer

    MakeServer = Callable[..., RunningServer]

WS = "/api/v1/workspaces/demo"
API = {"api-version": "2020-09-30"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def login_server(server: RunningServer) -> str:
    return str(server.info["url"]).removeprefix("https://")


def admin_passwords(server: RunningServer) -> list[str]:
    return [entry["value"] for entry in server.api.get(f"{WS}/registry/credentials").json()["passwords"]]


def digest_of(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


def push(registry: httpx.Client, repository: str, tag: str, auth: tuple[str, str]) -> httpx.Response:
    """Push an image of one empty layer as any client would, with user and password."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    layer = b"layer of " + repository.encode()
    for content in (config, layer):
        begun = registry.post(f"/v2/{repository}/blobs/uploads/", auth=auth)
        if begun.status_code != 202:
            return begun
        registry.put(begun.headers["location"], params={"digest": digest_of(content)}, content=content, auth=auth)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(layer), "size": len(layer)}
        ],
    }
    path = f"/v2/{repository}/manifests/{tag}"
    return registry.put(path, content=json.dumps(manifest), headers={"Content-Type": MANIFEST}, auth=auth)


def test_the_admin_user_is_off_then_pushes_and_the_api_lists_what_it_pushed(server: RunningServer) -> None:
    assert admin_passwords(server) == []
    assert push(server.anyone, "demo/early", "1", ("demo", "guess")).status_code == 401
    shown = server.api.post(f"{WS}/registry/admin-user", json={"enabled": True}).json()
    assert (shown["loginServer"], shown["username"]) == (login_server(server), "demo")
    first, second = admin_passwords(server)
    assert push(server.anyone, "demo/digits", "1", ("demo", first)).status_code == 201
    assert push(server.anyone, "demo/digits", "2", ("demo", second)).status_code == 201
    assert push(server.anyone, "other/digits", "1", ("demo", first)).status_code in (401, 403)
    listed = server.api.get(f"{WS}/registry").json()["repositories"]
    assert [(entry["name"], {tag["name"] for tag in entry["tags"]}) for entry in listed] == [
        ("demo/digits", {"1", "2"})
    ]

    server.api.post(f"{WS}/registry/regenerate", json={"name": "password"})
    assert server.anyone.get("/v2/", auth=("demo", first)).status_code == 401
    assert server.anyone.get("/v2/", auth=("demo", second)).status_code == 200
    server.api.post(f"{WS}/registry/admin-user", json={"enabled": False})
    assert server.anyone.get("/v2/", auth=("demo", second)).status_code == 401


def test_registry_passwords_are_nowhere_on_the_disk_in_clear(server: RunningServer) -> None:
    server.api.post(f"{WS}/registry/admin-user", json={"enabled": True})
    passwords = [password.encode() for password in admin_passwords(server)]
    for path in (path for path in server.data.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not any(password in content for password in passwords), path


def test_the_apis_tokens_open_the_registry_within_their_rights(server: RunningServer) -> None:
    server.api.post("/api/v1/workspaces", json={"name": "other", "existOk": True})
    limited = server.api.post("/api/v1/workspaces/other/tokens").json()["token"]
    assert push(server.anyone, "other/thing", "1", ("token", limited)).status_code == 201
    assert push(server.anyone, "demo/thing", "1", ("token", limited)).status_code in (401, 403)
    assert server.client(server.token).get("/v2/_catalog").status_code == 200
    assert "demo" not in server.client(limited).get("/v2/_catalog").text


def deployment(image: str) -> dict[str, Any]:
    module = {
        "version": "1.0",
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        "settings": {"image": image},
    }
    desired = {
        "schemaVersion": "1.0",
        "runtime": {"type": "docker", "settings": {}},
        "systemModules": {},
        "modules": {"scorer": module},
    }
    return {"modulesContent": {"$edgeAgent": {"properties.desired": desired}}}


def make_device(server: RunningServer, device: str) -> Any:
    body = {"deviceId": device, "capabilities": {"iotEdge": True}}
    made = server.api.put(f"/devices/{device}", params=API, json=body)
    assert made.status_code == 200, made.text
    return made.json()


def deploy(server: RunningServer, device: str, image: str) -> httpx.Response:
    return server.api.post(f"/devices/{device}/applyConfigurationContent", params=API, json=deployment(image))


def test_a_deployment_of_an_image_that_is_not_there_names_it_and_the_way_out(server: RunningServer) -> None:
    make_device(server, "checked")
    server.api.post(f"{WS}/registry/admin-user", json={"enabled": True})
    auth = ("demo", admin_passwords(server)[0])
    assert push(server.anyone, "demo/scorer", "7", auth).status_code == 201
    here = login_server(server)
    for image, hint in ((f"{here}/demo/scorer:8", "has the tags 7"), (f"{here}/demo/scorr:7", "there is demo/scorer")):
        refused = deploy(server, "checked", image)
        message = refused.json()["error"]["message"]
        assert refused.status_code == 400
        assert "'scorer'" in message
        assert image in message
        assert hint in message
    modules = server.api.get("/devices/checked/modules", params=API).json()
    assert {module["moduleId"] for module in modules} == {"$edgeAgent", "$edgeHub"}, "nothing changed"
    assert deploy(server, "checked", f"{here}/demo/scorer:7").status_code == 204
    assert deploy(server, "checked", "elsewhere.example/any:1").status_code == 204


def test_a_workspace_token_has_no_rights_over_devices(server: RunningServer) -> None:
    limited = server.client(server.api.post(f"{WS}/tokens").json()["token"])
    assert limited.get("/devices", params=API).status_code == 403
    assert limited.get("/api/v1/messages").status_code == 403
    assert limited.get("/api/v1/devices/d/connection-string").status_code == 403


def test_a_device_gets_its_connection_string_and_an_unknown_one_is_named(server: RunningServer) -> None:
    key = make_device(server, "press-4")["authentication"]["symmetricKey"]["primaryKey"]
    told = server.api.get("/api/v1/devices/press-4/connection-string").json()["connectionString"]
    assert told == f"HostName={login_server(server)};DeviceId=press-4;SharedAccessKey={key}"
    missing = server.api.get("/api/v1/devices/press-5/connection-string")
    assert (missing.status_code, "press-5" in missing.json()["error"]["message"]) == (404, True)


def make_sensor(server: RunningServer, device: str) -> Sensor:
    make_device(server, device)
    made = server.api.put(
        f"/devices/{device}/modules/sensor", params=API, json={"deviceId": device, "moduleId": "sensor"}
    )
    key = made.json()["authentication"]["symmetricKey"]["primaryKey"]
    identity = Identity(login_server(server), device, "sensor", key)
    return Sensor(identity, int(str(server.info["mqttPort"])), server.data / "tls" / "ca.pem")


def test_what_a_device_sends_over_mqtt_is_read_over_the_api(server: RunningServer) -> None:
    start = server.api.get("/api/v1/messages", params={"after": "latest"}).json()["next"]
    bodies = [b'{"n": 1}', "grüße".encode(), b"\xff\x00", b"NaN", b'"\\ud800"', b"[" * 500 + b"]" * 500]
    with make_sensor(server, "sender") as sensor:
        sensor.send([Reading(body, {"digit": "3"}) for body in bodies], output="digits")
    answer = server.api.get("/api/v1/messages", params={"after": start, "wait_s": 5, "device": "sender"}).json()
    first, text, raw, nan, lone, deep = answer["messages"]
    assert first["body"] == {"n": 1}
    assert (first["deviceId"], first["moduleId"], first["output"]) == ("sender", "sensor", "digits")
    assert (first["properties"], first["sizeBytes"]) == ({"digit": "3"}, 8)
    assert first["enqueuedAt"].endswith("Z")
    assert text["body"] == "grüße"
    assert (raw["body"], raw["bodyBase64"]) == (None, "/wA=")
    assert (nan["body"], lone["body"], deep["body"]) == ("NaN", "\ud800", "[" * 500 + "]" * 500)
    assert answer["next"] == deep["sequence"]
    rest = server.api.get("/api/v1/messages", params={"after": first["sequence"], "limit": 1}).json()["messages"]
    assert [message["sequence"] for message in rest] == [text["sequence"]]


def test_a_long_poll_answers_as_soon_as_a_message_comes(server: RunningServer) -> None:
    sensor = make_sensor(server, "waker")
    api, found = server.api, []
    params = {"after": "latest", "wait_s": 60, "device": "waker"}
    waiter = threading.Thread(target=lambda: found.append(api.get("/api/v1/messages", params=params).json()))
    with sensor:
        waiter.start()
        time.sleep(0.5)
        sensor.send([Reading(b"7", {})])
        sent = time.monotonic()
        waiter.join()
    assert time.monotonic() - sent < 25
    assert [message["body"] for message in found[0]["messages"]] == [7]


def test_messages_survive_a_kill_and_long_polls_end_at_a_stop(make_server: MakeServer) -> None:
    server = make_server()
    with make_sensor(server, "sender") as sensor:
        sensor.send([Reading(b"1", {}), Reading(b"2", {})])
        server.stop(9)
    again = make_server()
    kept = again.api.get("/api/v1/messages").json()
    assert [message["body"] for message in kept["messages"]] == [1, 2]
    api, answers = again.api, []
    params = {"after": "latest", "wait_s": 60}
    waiter = threading.Thread(target=lambda: answers.append(api.get("/api/v1/messages", params=params)))
    waiter.start()
    time.sleep(1)
    assert again.process is not None
    began = time.monotonic()
    again.process.terminate()
    waiter.join()
    assert time.monotonic() - began < 25
    assert (answers[0].status_code, answers[0].json()["messages"]) == (200, [])
    again.process.wait(timeout=10)
    assert (again.process.returncode, again.errors()) == (0, "")


def image_request(server: RunningServer, **change: Any) -> dict[str, Any]:
    script = server.send("demo", b"def init():\n    pass\n\ndef run(raw_data):\n    return raw_data\n")
    return {"name": "scorer", "script": {"path": "score.py", "digest": script}} | change


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"script": {"path": "score.py", "digest": digest_of(b"never sent")}}, 400, "not sent"),
        ({"models": ["nothing:1"]}, 404, "nothing"),
        ({"models": ["nothing"]}, 400, "with its version"),
        ({"platforms": ["windows/amd64"]}, 400, "windows/amd64"),
        ({"name": "Bad Name"}, 400, "image name"),
        ({"environment": {"digest": digest_of(b"never sent")}}, 400, "not sent"),
    ],
)
def test_an_image_that_cannot_be_built_is_refused_and_changes_nothing(
    server: RunningServer, change: dict[str, Any], status: int, words: str
) -> None:
    refused = server.api.post(f"{WS}/images", json=image_request(server, **change))
    assert refused.status_code == status
    assert words in refused.json()["error"]["message"]
    assert server.api.get(f"{WS}/images").json() == {"images": []}


def test_a_script_without_run_and_an_environment_that_is_no_yaml_are_refused(server: RunningServer) -> None:
    script = {"path": "score.py", "digest": server.send("demo", b"def init(): pass\n")}
    refused = server.api.post(f"{WS}/images", json=image_request(server, script=script))
    assert (refused.status_code, "run" in refused.json()["error"]["message"]) == (400, True)
    environment = {"digest": server.send("demo", b"a: [b\n")}
    refused = server.api.post(f"{WS}/images", json=image_request(server, environment=environment))
    assert refused.status_code == 400


def test_a_build_is_followed_cancelled_and_deleted_and_holds_its_model(make_server: MakeServer, tmp_path: Path) -> None:
    # An index that does not answer: the build starts for real, and needs no network to be cancelled.
    server = make_server()
    server.api.post("/api/v1/workspaces", json={"name": "demo"})
    files = [{"path": "m", "digest": server.send("demo", b"m")}]
    server.api.post(f"{WS}/models", json={"name": "digits", "files": files})
    environment = {
        "digest": server.send("demo", b"dependencies:\n- pip:\n  - --index-url https://127.0.0.1:9/\n  - six\n")
    }
    made = server.api.post(f"{WS}/images", json=image_request(server, models=["digits:1"], environment=environment))
    assert made.status_code == 202, made.text
    image = made.json()
    assert (image["id"], image["location"]) == ("scorer:1", f"{login_server(server)}/demo/scorer:1")
    assert image["state"] in ("queued", "running")
    assert server.api.get("/api/v1/workspaces/demo").json()["imageCount"] == 1
    held = server.api.delete(f"{WS}/models/digits/versions/1")
    assert (held.status_code, "scorer:1" in held.json()["error"]["message"]) == (409, True)
    version = f"{WS}/images/scorer/versions/1"
    assert server.api.delete(version).status_code == 409
    assert server.api.post(f"{version}/cancel").json()["state"] == "cancelled"
    log = server.api.get(f"{version}/log", params={"wait_s": 20}).json()
    assert log["state"] == "cancelled"
    assert log["next"] == log["events"][-1]["n"]
    assert server.api.delete(version).status_code == 204
    assert server.api.delete(f"{WS}/models/digits/versions/1").status_code == 204
    assert server.api.get(version).status_code == 404
