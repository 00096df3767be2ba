"""The token flow, as Docker, containerd and oras use it."""

from datetime import datetime

import httpx
import pytest
from tests.registry.world import Clock, basic, code_of, push_image

from sanderling.registry import RegistryCredentials, Scope

pytestmark = pytest.mark.anyio


async def token_of(client: httpx.AsyncClient, headers: dict[str, str], *scopes: str) -> dict[str, str]:
    response = await client.get("/v2/token", headers=headers, params=[("scope", scope) for scope in scopes])
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    document: dict[str, str] = response.json()
    return document


def bearer(document: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {document['token']}"}


async def test_a_password_gives_a_token_for_what_was_asked(
    anonymous: httpx.AsyncClient, client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    manifest = await push_image(client)
    document = await token_of(anonymous, admin, "repository:demo/digits:pull")
    assert document["token"] == document["access_token"]
    assert document["scope"] == "repository:demo/digits:pull"
    assert datetime.fromisoformat(document["issued_at"])
    assert int(document["expires_in"]) >= 60
    response = await anonymous.get("/v2/demo/digits/manifests/1", headers=bearer(document))
    assert response.content == manifest.raw


async def test_a_token_without_a_right_is_worth_widening_once(
    anonymous: httpx.AsyncClient, client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    await push_image(client)
    pull = await token_of(anonymous, admin, "repository:demo/digits:pull")
    narrow = await anonymous.post("/v2/demo/digits/blobs/uploads/", headers=bearer(pull))
    assert narrow.status_code == 401
    assert 'error="insufficient_scope"' in narrow.headers["www-authenticate"]
    push = await token_of(anonymous, admin, "repository:demo/digits:pull,push")
    assert (await anonymous.post("/v2/demo/digits/blobs/uploads/", headers=bearer(push))).status_code == 202
    foreign = await token_of(anonymous, admin, "repository:other/digits:pull,push")
    assert foreign["scope"] == ""
    denied = await anonymous.get("/v2/other/digits/manifests/1", headers=bearer(foreign))
    assert (denied.status_code, code_of(denied)) == (403, "DENIED")


async def test_several_scopes_come_in_one_or_many_parameters(
    anonymous: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    document = await token_of(
        anonymous, admin, "repository:demo/a:pull repository:demo/b:push", "repository:demo/c:delete"
    )
    assert document["scope"] == "repository:demo/a:pull repository:demo/b:push repository:demo/c:delete"


async def test_a_token_for_the_catalogue_shows_the_callers_repositories(
    anonymous: httpx.AsyncClient, client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    await push_image(client)
    challenge = (await anonymous.get("/v2/_catalog")).headers["www-authenticate"]
    assert 'scope="registry:catalog:*"' in challenge
    document = await token_of(anonymous, admin, "registry:catalog:*")
    response = await anonymous.get("/v2/_catalog", headers=bearer(document))
    assert response.json() == {"repositories": ["demo/digits"]}
    assert (await anonymous.get("/v2/demo/digits/manifests/1", headers=bearer(document))).status_code == 401


async def test_a_form_gives_a_token_too(
    anonymous: httpx.AsyncClient, credentials: RegistryCredentials, admin: dict[str, str]
) -> None:
    form = {
        "grant_type": "password",
        "username": "demo",
        "password": credentials.admin("demo").passwords[1],
        "service": "localhost:8443",
        "client_id": "containerd-client",
        "scope": "repository:demo/digits:pull",
    }
    response = await anonymous.post("/v2/token", data=form)
    assert response.json()["scope"] == "repository:demo/digits:pull"
    issued = credentials.issue("device/1", [Scope.of("demo/*", "pull")], 60)
    form = {"grant_type": "refresh_token", "refresh_token": issued, "scope": "repository:demo/digits:pull,push"}
    assert (await anonymous.post("/v2/token", data=form)).json()["scope"] == "repository:demo/digits:pull"


async def test_an_expired_token_is_told_apart(
    anonymous: httpx.AsyncClient, admin: dict[str, str], clock: Clock
) -> None:
    document = await token_of(anonymous, admin)
    assert (await anonymous.get("/v2/", headers=bearer(document))).status_code == 200
    clock.now += int(document["expires_in"])
    response = await anonymous.get("/v2/", headers=bearer(document))
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert "the token expired at " in response.json()["errors"][0]["message"]


async def test_an_expired_token_as_a_password_is_told_so_and_slows_nobody(
    anonymous: httpx.AsyncClient, credentials: RegistryCredentials, clock: Clock
) -> None:
    token = credentials.issue("device", [Scope.of("demo/*", "pull")], 60)
    clock.now += 60
    for path in ["/v2/token", "/v2/"] * 5:
        response = await anonymous.get(path, headers=basic("device", token))
        assert (response.status_code, code_of(response)) == (401, "UNAUTHORIZED")
        assert response.json()["errors"][0]["message"] == "the token expired at 1970-01-12 13:47:40 UTC; get a new one"
        assert "www-authenticate" in response.headers


async def test_a_token_without_the_catalogue_is_told_to_ask_for_it_once(
    anonymous: httpx.AsyncClient, client: httpx.AsyncClient, admin: dict[str, str], credentials: RegistryCredentials
) -> None:
    await push_image(client)
    first = await anonymous.get("/v2/_catalog", headers=bearer(await token_of(anonymous, admin)))
    assert first.status_code == 401
    challenge = first.headers["www-authenticate"]
    assert 'scope="registry:catalog:*",error="insufficient_scope"' in challenge
    blind = basic("device", credentials.issue("device", [Scope.of("demo/digits", "push")], 60))
    document = await token_of(anonymous, blind, "registry:catalog:*")
    assert (await anonymous.get("/v2/_catalog", headers=bearer(document))).json() == {"repositories": []}


async def test_a_wrong_password_gives_no_token(anonymous: httpx.AsyncClient, admin: dict[str, str]) -> None:
    for headers in ({}, basic("demo", "wrong"), {"Authorization": "Bearer x"}):
        response = await anonymous.get("/v2/token", headers=headers)
        assert (response.status_code, code_of(response)) == (401, "UNAUTHORIZED")
        assert response.headers["www-authenticate"].startswith("Basic")
    form = {"grant_type": "password", "username": "demo", "password": "wrong"}
    assert (await anonymous.post("/v2/token", data=form)).status_code == 401
    answers = [(await anonymous.get("/v2/token", headers=basic("demo", "wrong"))).status_code for _ in range(4)]
    assert answers == [401, 401, 401, 429]
    assert (await anonymous.get("/v2/token", headers=admin)).status_code == 200


async def test_docker_login_asks_for_an_offline_token_that_ends_with_the_password(
    anonymous: httpx.AsyncClient, credentials: RegistryCredentials, admin: dict[str, str], clock: Clock
) -> None:
    asked = {"account": "demo", "client_id": "docker", "offline_token": "true", "service": "localhost:8443", "x": "y"}
    document = (await anonymous.get("/v2/token", headers=admin, params=asked)).json()
    clock.now += 30 * 86400
    form = {
        "grant_type": "refresh_token",
        "service": "localhost:8443",
        "client_id": "docker",
        "scope": "repository:demo/digits:pull,push repository:other/digits:pull",
        "refresh_token": document["refresh_token"],
    }
    renewed = (await anonymous.post("/v2/token", data=form)).json()
    assert renewed["scope"] == "repository:demo/digits:pull,push"
    assert "refresh_token" not in renewed
    assert (await anonymous.get("/v2/", headers=bearer(renewed))).status_code == 200
    credentials.regenerate("demo", "password2")
    assert (await anonymous.post("/v2/token", data=form)).status_code == 200
    credentials.regenerate("demo", "password")
    assert (await anonymous.post("/v2/token", data=form)).status_code == 401
    assert (await anonymous.get("/v2/", headers=bearer(renewed))).status_code == 401


async def test_a_form_may_ask_for_an_offline_token_too(
    anonymous: httpx.AsyncClient, credentials: RegistryCredentials, clock: Clock
) -> None:
    issued = credentials.tokens.create("demo", "ci", [Scope.of("demo/*", "pull")], expires_at=clock.now + 86400)
    form = {"grant_type": "password", "username": "demo.ci", "password": issued.password, "access_type": "offline"}
    refresh = (await anonymous.post("/v2/token", data=form)).json()["refresh_token"]
    again = {"grant_type": "refresh_token", "refresh_token": refresh, "scope": "repository:demo/a:pull,push"}
    clock.now += 86400 - 60
    document = (await anonymous.post("/v2/token", data=again)).json()
    assert (document["scope"], int(document["expires_in"])) == ("repository:demo/a:pull", 60)
    clock.now += 60
    assert (await anonymous.post("/v2/token", data=again)).status_code == 401
    assert (await anonymous.get("/v2/", headers=bearer(document))).status_code == 401


async def test_an_issued_token_is_not_made_longer(
    anonymous: httpx.AsyncClient, credentials: RegistryCredentials
) -> None:
    issued = credentials.issue("build", [Scope.of("demo/*", "pull")], 60)
    document = await token_of(anonymous, basic("build", issued), "repository:demo/a:pull")
    assert int(document["expires_in"]) == 60
    asked = (await anonymous.get("/v2/token", headers=basic("build", issued), params={"offline_token": "true"})).json()
    assert "refresh_token" not in asked


async def test_more_scopes_than_a_token_holds_are_refused(anonymous: httpx.AsyncClient, admin: dict[str, str]) -> None:
    scopes = [f"repository:demo/{'x' * 240}{number}:pull" for number in range(50)]
    response = await anonymous.get("/v2/token", headers=admin, params={"scope": scopes})
    assert (response.status_code, "fewer" in response.text) == (400, True)


@pytest.mark.parametrize("content", [b"", b"grant_type=code", b"\xff\xfe", b"&" * 200, b"grant_type=password&" * 99])
async def test_a_form_that_makes_no_sense_is_refused(anonymous: httpx.AsyncClient, content: bytes) -> None:
    assert 400 <= (await anonymous.post("/v2/token", content=content)).status_code < 500


async def test_an_endless_form_is_refused(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.post("/v2/token", content=b"a=b&" * 20_000)).status_code == 413
    assert (await anonymous.post("/v2/token", content=b"a=b&" * 200)).status_code == 400
