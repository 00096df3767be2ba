from __future__ import annotations

import json
import re
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sanderling.server.api import (
    blobs,
    devices,
    images,
    messages,
    models,
    registry,
    registry_space,
    registry_tokens,
    registry_upstreams,
    sign_in,
    signing_key,
    workspaces,
)

if TYPE_CHECKING:
    from tests.server.conftest import RunningServer


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer " + "x" * 5000}, {"Authorization": "Basic YTpi"}],
)
def test_without_a_right_token_nothing_is_told(server: RunningServer, headers: dict[str, str]) -> None:
    for path in ("/api/v1/me", "/api/v1/workspaces", "/api/v1/workspaces/demo/models"):
        answer = server.anyone.get(path, headers=headers)
        assert code_of(answer) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_well_known_pages_need_no_token(server: RunningServer) -> None:
    told = server.anyone.get("/.well-known/sanderling").json()
    assert told.pop("version")
    assert told == {
        "product": "sanderling",
        "apiVersion": "v1",
        "mqttPort": server.info["mqttPort"],
        "loginServer": str(server.info["url"]).removeprefix("https://"),
    }
    ca = server.anyone.get("/.well-known/sanderling/ca.pem")
    assert ca.content == (server.data / "tls" / "ca.pem").read_bytes()


def test_a_workspace_token_works_in_its_workspace_alone(server: RunningServer) -> None:
    server.api.post("/api/v1/workspaces", json={"name": "other", "existOk": True})
    made = server.api.post("/api/v1/workspaces/other/tokens")
    assert made.status_code == 201
    api = server.client(made.json()["token"])
    assert api.get("/api/v1/me").json() == {
        "role": "workspace",
        "workspace": "other",
        "kind": "workspace",
        "expiresAt": None,
    }
    assert api.get("/api/v1/workspaces/other/models").status_code == 200
    assert [found["name"] for found in api.get("/api/v1/workspaces").json()["workspaces"]] == ["other"]
    assert api.post("/api/v1/workspaces", json={"name": "other", "existOk": True}).status_code == 201
    digest = "sha256:" + "0" * 64
    for answer in (
        api.get("/api/v1/workspaces/demo"),
        api.get("/api/v1/workspaces/demo/models"),
        api.put(f"/api/v1/workspaces/demo/blobs/{digest}", content=b""),
        api.post("/api/v1/workspaces", json={"name": "third"}),
        api.post("/api/v1/workspaces/other/tokens"),
    ):
        assert code_of(answer) == (403, "denied")


def test_a_sign_in_link_works_once_and_its_session_can_be_ended(server: RunningServer) -> None:
    link = server.api.post("/api/v1/sign-in-links").json()
    page, _, code = link["url"].partition("#")
    assert page == f"{server.info['url']}/sign-in"
    signed_in = server.anyone.post("/api/v1/sign-in", json={"code": code})
    assert signed_in.status_code == 200
    assert signed_in.json()["expiresAt"].endswith("Z")
    assert code_of(server.anyone.post("/api/v1/sign-in", json={"code": code})) == (401, "unauthenticated")
    session = server.client(signed_in.json()["token"])
    assert session.get("/api/v1/me").json()["kind"] == "session"
    assert session.post("/api/v1/sign-out").status_code == 204
    assert code_of(session.get("/api/v1/me")) == (401, "unauthenticated")


def test_the_openapi_document_lists_every_route_of_the_api(server: RunningServer) -> None:
    document = server.anyone.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.")
    listed = {(path, method) for path, methods in document["paths"].items() for method in methods}
    modules = (sign_in, workspaces, blobs, models, images, registry, devices, messages)
    modules += (registry_space, registry_tokens, registry_upstreams, signing_key)
    expected = {
        (f"/api/v1{route.path.replace(':path', '')}", method.lower())
        for module in modules
        for route in module.router.routes
        for method in route.methods
    }
    assert listed - expected == {
        ("/.well-known/sanderling", "get"),
        ("/.well-known/sanderling/ca.pem", "get"),
        ("/healthz", "get"),
    }
    assert expected <= listed
    operations = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(operations) == len(set(operations))
    text = json.dumps(document)
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert name in document["components"]["schemas"]


def test_answers_are_not_cached_and_their_type_is_not_guessed(server: RunningServer) -> None:
    answer = server.api.get("/api/v1/me")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


def test_guessing_codes_is_slowed_for_the_address_that_guesses(server: RunningServer) -> None:
    context = ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem"))
    transport = httpx.HTTPTransport(verify=context, local_address="127.0.0.2")
    with httpx.Client(
        base_url=str(server.info["url"]).replace("localhost", "127.0.0.1"), transport=transport
    ) as guesser:
        answers = [guesser.post("/api/v1/sign-in", json={"code": f"guess-{n}"}) for n in range(11)]
    assert code_of(answers[0]) == (401, "unauthenticated")
    assert code_of(answers[-1]) == (429, "unavailable")
    assert int(answers[-1].headers["retry-after"]) > 0
    code = server.api.post("/api/v1/sign-in-links").json()["url"].partition("#")[2]
    assert server.anyone.post("/api/v1/sign-in", json={"code": code}).status_code == 200


def test_the_portal_signs_in_with_a_link_and_shows_the_workspace(server: RunningServer) -> None:
    browser = server.anyone
    start = browser.get("/")
    assert (start.status_code, start.headers["location"]) == (303, "/sign-in")
    page = browser.get("/sign-in")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    code = server.api.post("/api/v1/sign-in-links").json()["url"].partition("#")[2]
    signed_in = browser.post("/sign-in", data={"code": code}, headers={"Sec-Fetch-Site": "same-origin"})
    assert signed_in.status_code == 303
    overview = browser.get("/workspaces/demo/models")
    assert overview.status_code == 200
    assert "demo" in overview.text
    assert browser.get("/no-such-page").status_code == 404


def test_a_session_does_not_make_itself_last_for_ever(server: RunningServer) -> None:
    code = server.api.post("/api/v1/sign-in-links").json()["url"].partition("#")[2]
    token = server.anyone.post("/api/v1/sign-in", json={"code": code}).json()["token"]
    assert code_of(server.client(token).post("/api/v1/sign-in-links")) == (403, "denied")
