"""Signing in, rights, refusals and hostile requests at `/v2/`."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.registry.world import LOGIN_SERVER, basic, code_of, push_blob, push_image, put_manifest

from sanderling.oci import Digest
from sanderling.registry import Registry, RegistryCredentials, Scope

pytestmark = pytest.mark.anyio

D = Digest.of(b"x")


async def test_who_is_not_signed_in_is_told_where_tokens_are(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/v2/")
    assert (response.status_code, code_of(response)) == (401, "UNAUTHORIZED")
    assert response.headers["docker-distribution-api-version"] == "registry/2.0"
    assert response.headers["www-authenticate"] == (
        'Bearer realm="https://localhost:8443/v2/token",service="localhost:8443"'
    )


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "manifests/1", "repository:demo/digits:pull"),
        ("HEAD", f"blobs/{D}", "repository:demo/digits:pull,push,delete"),
        ("HEAD", "manifests/1", "repository:demo/digits:pull,push,delete"),
        ("GET", "tags/list", "repository:demo/digits:pull"),
        ("POST", "blobs/uploads/", "repository:demo/digits:pull,push"),
        ("PUT", "manifests/1", "repository:demo/digits:pull,push"),
        ("DELETE", "manifests/1", "repository:demo/digits:delete"),
    ],
)
async def test_the_challenge_names_the_scope(anonymous: httpx.AsyncClient, method: str, path: str, scope: str) -> None:
    response = await anonymous.request(method, f"/v2/demo/digits/{path}")
    assert response.status_code == 401
    assert f'scope="{scope}"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("host", "realm"),
    [
        ("relay.example.com", "https://relay.example.com/v2/token"),
        ("[::1]:8443", "https://[::1]:8443/v2/token"),
        ('evil",service="x', "https://localhost:8443/v2/token"),
        ("evil.example/path?", "https://localhost:8443/v2/token"),
    ],
)
async def test_the_realm_is_where_the_client_reached_us(anonymous: httpx.AsyncClient, host: str, realm: str) -> None:
    response = await anonymous.get("/v2/", headers={"Host": host})
    assert f'realm="{realm}"' in response.headers["www-authenticate"]


async def test_basic_and_bearer_both_sign_in(client: httpx.AsyncClient, credentials: RegistryCredentials) -> None:
    assert (await client.get("/v2/")).json() == {}
    assert (await client.get("/v2")).status_code == 200
    token = credentials.issue("build", [Scope.of("demo/*", "pull", "push")], 60)
    for headers in ({"Authorization": f"Bearer {token}"}, basic("build", token)):
        assert (await client.get("/v2/", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic ZGVtbw==",
        "Basic /w==",
        "Bearer",
        "Bearer x",
        "Bearer sdr1.a.b",
        "Digest x",
        "é",
    ],
)
async def test_broken_credentials_are_nobodys(anonymous: httpx.AsyncClient, header: str) -> None:
    response = await anonymous.get("/v2/", headers={b"Authorization": header.encode()})
    assert (response.status_code, code_of(response)) == (401, "UNAUTHORIZED")


async def test_rights_are_checked_for_each_repository_and_action(
    client: httpx.AsyncClient, credentials: RegistryCredentials
) -> None:
    manifest = await push_image(client)
    token = credentials.issue("device/1", [Scope.of("demo/digits", "pull")], 60)
    device = {"Authorization": f"Bearer {token}"}
    base = "/v2/demo/digits"
    assert (await client.get(f"{base}/manifests/1", headers=device)).content == manifest.raw
    for method, path in (
        ("DELETE", f"{base}/manifests/1"),
        ("PUT", f"{base}/manifests/2"),
        ("POST", f"{base}/blobs/uploads/"),
        ("DELETE", f"{base}/blobs/{manifest.config.digest}"),
        ("GET", "/v2/demo/other/tags/list"),
        ("GET", "/v2/other/digits/manifests/1"),
    ):
        response = await client.request(method, path, headers=device)
        assert (response.status_code, code_of(response)) == (403, "DENIED")
    assert (await client.get("/v2/other/digits/manifests/1")).status_code == 403
    assert (await client.get(f"{base}/manifests/1")).status_code == 200


async def test_too_many_wrong_passwords_are_refused_for_a_while(anonymous: httpx.AsyncClient) -> None:
    answers = [await anonymous.get("/v2/", headers=basic("demo", "wrong")) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert code_of(answers[-1]) == "TOOMANYREQUESTS"
    assert answers[-1].headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "name", ["Demo/x", "demo/%2e%2e", "demo//x", "demo/x/", "/demo", "demo/" + "x" * 300, "demo/%C3%A9", "%00"]
)
async def test_a_name_that_cannot_be_is_refused(client: httpx.AsyncClient, name: str) -> None:
    for path in (f"/v2/{name}/tags/list", f"/v2/{name}/manifests/1", f"/v2/{name}/blobs/{D}"):
        response = await client.get(httpx.URL(f"https://{LOGIN_SERVER}").copy_with(raw_path=path.encode()))
        assert (response.status_code, code_of(response)) == (400, "NAME_INVALID")


async def test_a_repository_may_have_the_words_of_the_protocol_in_its_name(client: httpx.AsyncClient) -> None:
    name = "demo/blobs/uploads/manifests/tags/list"
    manifest = await push_image(client, "list", repository=name)
    assert (await client.get(f"/v2/{name}/manifests/list")).content == manifest.raw
    assert (await client.get(f"/v2/{name}/tags/list")).json()["tags"] == ["list"]


@pytest.mark.parametrize("path", ["/v2/x", "/v2/demo/digits", "/v1/", "/v2/demo/digits/nonsense/1"])
async def test_there_is_nothing_else(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, code_of(response)) == (404, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/"),
        ("PUT", f"/v2/demo/digits/blobs/{D}"),
        ("PATCH", "/v2/demo/digits/manifests/1"),
        ("DELETE", "/v2/demo/digits/tags/list"),
        ("DELETE", "/v2/token"),
        ("BREW", "/v2/_catalog"),
    ],
)
async def test_other_methods_are_unsupported(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert (response.status_code, code_of(response)) == (405, "UNSUPPORTED")
    assert response.headers["allow"]


async def test_the_app_may_be_mounted_at_the_root_or_at_v2(registry: Registry, admin: dict[str, str]) -> None:
    for prefix in ("/v2", ""):
        outer = Starlette(routes=[Mount(prefix or "/", registry.app())])
        transport = httpx.ASGITransport(outer)
        async with httpx.AsyncClient(transport=transport, base_url="https://h", headers=admin) as client:
            digest = await push_blob(client, b"mounted")
            assert (await client.get(f"/v2/demo/digits/blobs/{digest}")).content == b"mounted"
            assert (await client.get("/v2/")).status_code == 200


async def test_repeated_deletes_are_answered_calmly(client: httpx.AsyncClient) -> None:
    manifest = await push_image(client)
    path = f"/v2/demo/digits/manifests/{manifest.digest}"
    codes = [(await client.delete(path)).status_code for _ in range(3)]
    assert codes == [202, 404, 404]
    assert (await put_manifest(client, manifest.raw, manifest.media_type, "1")).status_code == 201
