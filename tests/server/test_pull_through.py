"""Two servers with TLS and passwords: one pulls through the other, and then does without it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.conftest import RunningServer

from sanderling.oci import Descriptor, Digest, Manifest, canonical_json, media_types

UPSTREAMS = "/api/v1/registry/upstreams"


def push(client: httpx.Client, repository: str, layer: bytes) -> Manifest:
    def put(media_type: str, content: bytes) -> Descriptor:
        digest = Digest.of(content)
        answer = client.post(f"/v2/{repository}/blobs/uploads/", params={"digest": digest}, content=content)
        assert answer.status_code == 201, answer.text
        return Descriptor(media_type, digest, len(content))

    config = {"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]}}
    manifest = Manifest.build(put(media_types.OCI_CONFIG, canonical_json(config)), [put(media_types.OCI_LAYER, layer)])
    answer = client.put(
        f"/v2/{repository}/manifests/1", content=manifest.raw, headers={"Content-Type": manifest.media_type}
    )
    assert answer.status_code == 201, answer.text
    return manifest


def pull(client: httpx.Client, repository: str) -> bytes:
    answer = client.get(f"/v2/{repository}/manifests/1")
    assert answer.status_code == 200, answer.text
    manifest = Manifest.parse(answer.content)
    blobs = [client.get(f"/v2/{repository}/blobs/{d.digest}") for d in (manifest.config, *manifest.layers)]
    assert [blob.status_code for blob in blobs] == [200, 200]
    return blobs[1].content


def upstream_of(server: RunningServer, **more: Any) -> dict[str, Any]:
    """Let the admin user of the workspace `demo` be known; return what adds the server as an upstream."""
    server.api.post("/api/v1/workspaces", json={"name": "demo", "existOk": True})
    access = server.api.post("/api/v1/workspaces/demo/registry/admin-user", json={"enabled": True}).json()
    return {
        "name": "hub",
        "registry": str(server.info["url"]).removeprefix("https://"),
        "username": "demo",
        "password": access["passwords"][0]["value"],
        "caPem": (server.data / "tls" / "ca.pem").read_text(),
    } | more


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The other server, with an image."""
    folder = tmp_path_factory.mktemp("there")
    running = RunningServer(folder / "data", folder / "config").start()
    running.api.post("/api/v1/workspaces", json={"name": "demo"})
    push(running.api, "demo/digits", b"layer")
    yield running
    running.stop()


def test_a_site_needs_the_upstream_once(make_server: Callable[..., RunningServer], tmp_path: Path) -> None:
    there, here = make_server(tmp_path / "there" / "data"), make_server(tmp_path / "here" / "data")
    upstream = upstream_of(there)
    layer = os.urandom(5_000_000)
    manifest = push(there.api, "demo/digits", layer)
    answer = here.api.post(UPSTREAMS, json=upstream)
    assert answer.status_code == 201, answer.text
    assert upstream["password"] not in answer.text
    assert pull(here.api, "hub/demo/digits") == layer
    there.stop()
    assert pull(here.api, "hub/demo/digits") == layer
    assert here.api.get(f"/v2/hub/demo/digits/manifests/{manifest.digest}").content == manifest.raw
    missing = here.api.get("/v2/hub/demo/digits/manifests/2")
    assert missing.status_code == 503
    assert upstream["registry"] in missing.text
    trouble = here.api.get(f"{UPSTREAMS}/hub").json()["trouble"]
    assert upstream["registry"] in trouble
    here.stop()
    assert "Traceback" not in here.errors()
    again = make_server(here.data)
    assert pull(again.api, "hub/demo/digits") == layer
    sealed = (here.data / "sanderling.db").read_bytes() + (here.data / "sanderling.db-wal").read_bytes()
    assert upstream["password"].encode() not in sealed


def test_who_may_pull_through(server: RunningServer, there: RunningServer) -> None:
    here = server
    for more in ({"name": "closed"}, {"name": "open", "shared": True}, {"name": "site/hub"}):
        assert here.api.post(UPSTREAMS, json=upstream_of(there, **more)).status_code == 201
    here.api.post("/api/v1/workspaces", json={"name": "site"})
    token = here.api.post("/api/v1/workspaces/site/tokens").json()["token"]
    member = here.client(token)
    assert member.get("/v2/closed/demo/digits/manifests/1").status_code == 403
    assert pull(member, "open/demo/digits") == b"layer"
    assert pull(member, "site/hub/demo/digits") == b"layer"
    assert here.anyone.get("/v2/open/demo/digits/manifests/1").status_code == 401
    assert member.get(UPSTREAMS).status_code == 403
    assert member.post(UPSTREAMS, json={"name": "x", "registry": "docker.io"}).status_code == 403
    assert member.delete(f"{UPSTREAMS}/open").status_code == 403


def test_the_owners_sign_in_for_docker_pulls_through(server: RunningServer, there: RunningServer) -> None:
    here = server
    for workspace in ("north", "south"):
        here.api.post("/api/v1/workspaces", json={"name": workspace})
    assert here.api.post(UPSTREAMS, json=upstream_of(there, name="base")).status_code == 201
    token = here.api.post("/api/v1/workspaces/north/tokens").json()["token"]

    def status(client: httpx.Client, path: str, method: str = "GET") -> int:
        password = client.post("/api/v1/workspaces/north/registry/login").json()["password"]
        return here.anyone.request(method, path, auth=("token", password)).status_code

    assert status(here.api, "/v2/base/demo/digits/manifests/1") == 200
    assert status(here.api, "/v2/base/demo/digits/manifests/1", "DELETE") in (401, 403)
    assert status(here.api, "/v2/south/digits/manifests/1") in (401, 403)
    assert status(here.client(token), "/v2/base/demo/digits/manifests/1") in (401, 403)


def test_wrong_credentials_and_an_unknown_authority_are_told(server: RunningServer, there: RunningServer) -> None:
    here = server
    here.api.post(UPSTREAMS, json=upstream_of(there, name="wrong", password="wrong"))
    here.api.post(UPSTREAMS, json=upstream_of(there, name="unknown", caPem=""))
    refused = here.api.get("/v2/wrong/demo/digits/manifests/1")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (403, "DENIED")
    assert "'demo'" in refused.text
    untrusted = here.api.get("/v2/unknown/demo/digits/manifests/1")
    assert (untrusted.status_code, untrusted.json()["errors"][0]["code"]) == (503, "UNAVAILABLE")
    assert "not trusted" in untrusted.text


def test_a_device_may_be_given_an_image_that_is_not_here_yet(server: RunningServer) -> None:
    answer = server.api.post(UPSTREAMS, json={"name": "far", "registry": "127.0.0.1:1", "plainHttp": True})
    assert answer.status_code == 201, answer.text
    login_server = str(server.info["url"]).removeprefix("https://")
    server.api.put("/devices/far-1", json={"deviceId": "far-1", "capabilities": {"iotEdge": True}})
    modules = {
        name: {
            "type": "docker",
            "status": "running",
            "restartPolicy": "always",
            "settings": {"image": image, "createOptions": ""},
        }
        for name, image in (("app", f"{login_server}/far/library/app:1"),)
    }
    system = {
        name: {"type": "docker", "settings": {"image": "sanderling", "createOptions": ""}}
        for name in ("edgeAgent", "edgeHub")
    }
    system["edgeHub"] |= {"status": "running", "restartPolicy": "always"}  # type: ignore[dict-item]
    content = {
        "modulesContent": {
            "$edgeAgent": {
                "properties.desired": {
                    "schemaVersion": "1.1",
                    "runtime": {"type": "docker", "settings": {}},
                    "systemModules": system,
                    "modules": modules,
                }
            },
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
        }
    }
    answer = server.api.post("/devices/far-1/applyConfigurationContent", json=content)
    assert answer.status_code in (200, 204), answer.text


def test_upstreams_are_added_listed_switched_and_removed(server: RunningServer) -> None:
    given = {"name": "quay", "registry": "quay.io", "username": "ci", "password": "s3cret-word", "only": ["app/*"]}
    added = server.api.post(UPSTREAMS, json=given)
    assert added.status_code == 201
    shown = server.api.get(f"{UPSTREAMS}/quay").json()
    assert shown == added.json()
    assert (shown["username"], shown["hasPassword"], shown["ttlSeconds"]) == ("ci", True, 3600)
    assert "s3cret-word" not in str(shown)
    assert server.api.post(UPSTREAMS, json=given).status_code == 409
    off = server.api.patch(f"{UPSTREAMS}/quay", json={"enabled": False})
    assert (off.status_code, off.json()["enabled"]) == (200, False)
    assert "quay" in [one["name"] for one in server.api.get(UPSTREAMS).json()["upstreams"]]
    assert server.api.delete(f"{UPSTREAMS}/quay").status_code == 204
    assert server.api.get(f"{UPSTREAMS}/quay").status_code == 404
    assert server.api.delete(f"{UPSTREAMS}/quay").status_code == 404


def test_what_cannot_be_an_upstream_is_refused(server: RunningServer) -> None:
    for given, status in (
        ({"name": "Hub", "registry": "docker.io"}, 400),
        ({"name": "../x", "registry": "docker.io"}, 400),
        ({"name": "x", "registry": "https://docker.io"}, 400),
        ({"name": "x", "registry": "docker.io/library"}, 400),
        ({"name": "x", "registry": "user:pw@host"}, 400),
        ({"name": "x", "registry": "docker.io", "username": "u"}, 400),
        ({"name": "x", "registry": "docker.io", "ttlSeconds": -1}, 400),
        ({"name": "x", "registry": "docker.io", "caPem": "no certificate"}, 400),
        ({"name": "x", "registry": "docker.io", "only": ["*"]}, 400),
        ({"name": "demo", "registry": "docker.io"}, 409),
    ):
        answer = server.api.post(UPSTREAMS, json=given)
        assert answer.status_code == status, (given, answer.text)


def test_a_workspace_cannot_take_the_name_of_an_upstream(server: RunningServer) -> None:
    assert server.api.post(UPSTREAMS, json={"name": "mirror", "registry": "docker.io"}).status_code == 201
    assert server.api.post("/api/v1/workspaces", json={"name": "mirror"}).status_code == 409
