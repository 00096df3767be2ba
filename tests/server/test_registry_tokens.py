"""The API of the registry's named tokens and logins."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.server.conftest import RunningServer

TOKENS = "/api/v1/workspaces/demo/registry/tokens"
PULL = [{"repositories": "demo/digits", "actions": ["pull"]}]


def create(server: RunningServer, name: str, **more: Any) -> httpx.Response:
    return server.api.post(TOKENS, json={"name": name, "scopes": PULL, **more})


def greeting(server: RunningServer, username: str, password: str) -> int:
    return server.anyone.get("/v2/", auth=(username, password)).status_code


def test_a_token_is_made_shown_once_used_switched_renewed_and_deleted(server: RunningServer) -> None:
    end = datetime.now(UTC) + timedelta(days=30)
    made = create(server, "ci", expiresAt=end.isoformat(), description="builds")
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    body = made.json()
    token, password = body["token"], body["password"]
    assert body["loginServer"] == str(server.info["url"]).removeprefix("https://")
    assert (token["username"], token["scopes"], token["description"]) == ("demo.ci", PULL, "builds")
    assert (token["enabled"], token["usedAt"], token["device"]) == (True, None, None)
    assert abs(datetime.fromisoformat(token["expiresAt"]) - end) < timedelta(seconds=1)
    assert greeting(server, "demo.ci", password) == 200
    listed = server.api.get(TOKENS)
    assert password not in listed.text
    (shown,) = [one for one in listed.json()["tokens"] if one["name"] == "ci"]
    assert shown["usedAt"] is not None
    assert server.api.get(f"{TOKENS}/ci").json() == shown
    assert server.api.patch(f"{TOKENS}/ci", json={"enabled": False}).json()["enabled"] is False
    assert greeting(server, "demo.ci", password) == 401
    assert server.api.patch(f"{TOKENS}/ci", json={"enabled": True}).json()["enabled"] is True
    renewed = server.api.post(f"{TOKENS}/ci/regenerate").json()["password"]
    assert (greeting(server, "demo.ci", password), greeting(server, "demo.ci", renewed)) == (401, 200)
    assert server.api.delete(f"{TOKENS}/ci").status_code == 204
    assert greeting(server, "demo.ci", renewed) == 401
    assert server.api.delete(f"{TOKENS}/ci").status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"name": "Not A Name"}, 400, "no token's name"),
        ({"scopes": []}, 400, "1 to 100 repositories"),
        ({"scopes": [{"repositories": "other/digits", "actions": ["pull"]}]}, 400, "not in workspace demo"),
        ({"scopes": [{"repositories": "*", "actions": ["pull"]}]}, 400, "not in workspace demo"),
        ({"scopes": [{"repositories": "demo/digits", "actions": ["own"]}]}, 400, "actions"),
        ({"scopes": [{"repositories": "demo/digits", "actions": []}]}, 400, "actions"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, 400, "future"),
        ({"expiresAt": "2099-01-01T00:00:00"}, 400, "time zone"),
        ({"expiresAt": "soon"}, 400, "expiresAt"),
        ({"device": "nowhere"}, 404, "no device 'nowhere'"),
    ],
)
def test_a_token_that_cannot_be_is_refused_and_not_made(
    server: RunningServer, change: dict[str, Any], status: int, text: str
) -> None:
    before = server.api.get(TOKENS).json()
    refused = create(server, **{"name": "wrong"} | change)
    assert refused.status_code == status
    assert text in refused.json()["error"]["message"]
    assert server.api.get(TOKENS).json() == before


def test_a_name_is_given_once(server: RunningServer) -> None:
    assert create(server, "twice").status_code == 201
    again = create(server, "twice")
    assert (again.status_code, "already" in again.text) == (409, True)


def test_a_workspaces_token_manages_its_own_tokens_alone(server: RunningServer) -> None:
    server.api.post("/api/v1/workspaces", json={"name": "other", "existOk": True})
    own = server.client(server.api.post("/api/v1/workspaces/other/tokens").json()["token"])
    for method, path in (
        ("GET", ""),
        ("POST", ""),
        ("GET", "/x"),
        ("PATCH", "/x"),
        ("POST", "/x/regenerate"),
        ("DELETE", "/x"),
    ):
        body = {"name": "x", "scopes": PULL, "enabled": True}
        assert own.request(method, TOKENS + path, json=body).status_code == 403
        assert server.anyone.request(method, TOKENS + path, json=body).status_code == 401
    assert own.post("/api/v1/workspaces/demo/registry/login").status_code == 403
    theirs = "/api/v1/workspaces/other/registry/tokens"
    scopes = [{"repositories": "other/*", "actions": ["pull"]}]
    assert own.post(theirs, json={"name": "x", "scopes": scopes}).status_code == 201
    refused = own.post(theirs, json={"name": "y", "scopes": scopes, "device": "press-4"})
    assert refused.status_code == 403


def test_a_login_opens_one_workspace_and_ends_with_who_asked_for_it(server: RunningServer) -> None:
    code = server.api.post("/api/v1/sign-in-links").json()["url"].partition("#")[2]
    session = server.anyone.post("/api/v1/sign-in", json={"code": code}).json()
    person = server.client(session["token"])
    made = person.post("/api/v1/workspaces/demo/registry/login").json()
    assert (made["username"], made["password"].startswith("sdr1.")) == ("token", True)
    assert timedelta(hours=2) < datetime.fromisoformat(made["expiresAt"]) - datetime.now(UTC) <= timedelta(hours=3)
    auth = ("token", made["password"])
    begun = server.anyone.post("/v2/demo/digits/blobs/uploads/", auth=auth)
    assert begun.status_code == 202
    assert server.anyone.post("/v2/other/digits/blobs/uploads/", auth=auth).status_code in (401, 403)
    asked = {"scope": "repository:demo/digits:pull,push repository:other/digits:pull", "offline_token": "true"}
    exchanged = server.anyone.get("/v2/token", auth=auth, params=asked).json()
    assert exchanged["scope"] == "repository:demo/digits:pull,push"
    bearer = {"Authorization": f"Bearer {exchanged['token']}"}
    assert server.anyone.get("/v2/", headers=bearer).status_code == 200
    person.post("/api/v1/sign-out")
    assert server.anyone.get("/v2/", auth=auth).status_code == 401
    assert server.anyone.get("/v2/", headers=bearer).status_code == 401
    refresh = {"grant_type": "refresh_token", "refresh_token": exchanged["refresh_token"]}
    assert server.anyone.post("/v2/token", data=refresh).status_code == 401


def test_the_document_of_the_api_has_the_tokens(server: RunningServer) -> None:
    paths = server.anyone.get("/api/openapi.json").json()["paths"]
    root = "/api/v1/workspaces/{ws}/registry"
    assert {f"{root}/tokens", f"{root}/tokens/{{name}}", f"{root}/tokens/{{name}}/regenerate", f"{root}/login"} <= set(
        paths
    )


def test_the_servers_log_has_no_secret(server: RunningServer) -> None:
    issued = create(server, "logged").json()["password"]
    login = server.api.post("/api/v1/workspaces/demo/registry/login").json()["password"]
    for user, password in (("demo.logged", issued), ("token", login), ("demo", issued), ("token", server.token)):
        server.anyone.get("/v2/token", auth=(user, password), params={"scope": "repository:demo/x:pull"})
        server.anyone.get("/v2/demo/x/tags/list", auth=(user, password))
        server.anyone.post("/v2/token", data={"grant_type": "password", "username": user, "password": password})
    for secret in (issued, login, server.token):
        assert secret not in server.errors()
