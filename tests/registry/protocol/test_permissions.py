"""Every endpoint for every kind of caller: who may, who is told to sign in, who is refused.

The registry holds demo/digits and other/scorer. A caller is someone who signs in with Basic,
or with the bearer token that they get for exactly what the endpoint asks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import pytest
from sqlalchemy import Engine
from tests.registry.world import Clock, basic, push_image, seal, unseal

from sanderling.oci import Digest, Manifest
from sanderling.registry import DeviceStanding, Principal, Proof, RegistryCredentials, Scope
from sanderling.registry.protocol import app

pytestmark = pytest.mark.anyio
ALL = ("pull", "push", "delete", "list")
SIGNATURE = "SharedAccessSignature of press-4"


class Hub:
    """One device, whose deployment names demo/digits."""

    def sign_in(self, device_id: str, signature: str) -> DeviceStanding | None:
        return self.find(device_id) if signature == SIGNATURE else None

    def find(self, device_id: str) -> DeviceStanding | None:
        standing = DeviceStanding("press-4", "1", "k", frozenset({"demo/digits"}))
        return standing if device_id == "press-4" else None


def owner(token: str) -> Principal | None:
    return Principal("owner", (Scope.of("*", *ALL),), proof=Proof("server", token, "")) if token == "owner" else None


@pytest.fixture
def credentials(engine: Engine, clock: Clock) -> RegistryCredentials:
    return RegistryCredentials(
        engine, seal, unseal, bearer=owner, recall=owner, devices=Hub(), clock=clock, monotonic=clock
    )


@pytest.fixture(autouse=True)
def nobody_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_HOLD_S", 0.0)


@dataclass(frozen=True)
class Caller:
    """What is allowed: actions by repository. *None* signs in as nobody."""

    name: str
    may: Mapping[str, str] = field(default_factory=dict)
    is_known: bool = True

    def allows(self, action: str, repository: str) -> bool:
        actions = self.may.get(repository, "").split()
        return action in actions or (action == "list" and "pull" in actions)


EVERYTHING = "pull push delete list"
CALLERS = [
    Caller("nobody", is_known=False),
    Caller("wrong password", is_known=False),
    Caller("disabled admin", is_known=False),
    Caller("expired token", is_known=False),
    Caller("disabled token", is_known=False),
    Caller("admin", {"demo/digits": EVERYTHING, "demo/new": EVERYTHING}),
    Caller("other admin", {"other/scorer": EVERYTHING}),
    Caller("owner", dict.fromkeys(("demo/digits", "demo/new", "other/scorer"), EVERYTHING)),
    Caller("pull token", {"demo/digits": "pull"}),
    Caller("push token", {"demo/digits": "pull push"}),
    Caller("delete token", {"demo/digits": "delete"}),
    Caller("list token", {"demo/digits": "list", "demo/new": "list"}),
    Caller("folder token", {"demo/digits": "pull", "demo/new": "pull"}),
    Caller("device", {"demo/digits": "pull"}),
]

# method, path below the repository, action
ENDPOINTS = [
    ("GET", "manifests/1", "pull"),
    ("HEAD", "manifests/1", "pull"),
    ("GET", "manifests/MANIFEST", "pull"),
    ("GET", "blobs/BLOB", "pull"),
    ("HEAD", "blobs/BLOB", "pull"),
    ("GET", "tags/list", "list"),
    ("GET", "referrers/MANIFEST", "pull"),
    ("POST", "blobs/uploads/", "push"),
    ("POST", "blobs/uploads/?digest=BLOB", "push"),
    ("POST", "blobs/uploads/?mount=BLOB&from=demo/digits", "push"),
    ("GET", "blobs/uploads/UPLOAD", "push"),
    ("PATCH", "blobs/uploads/UPLOAD", "push"),
    ("PUT", "blobs/uploads/UPLOAD?digest=BLOB", "push"),
    ("DELETE", "blobs/uploads/UPLOAD", "push"),
    ("PUT", "manifests/2", "push"),
    ("PUT", "manifests/MANIFEST?tag=3", "push"),
    ("DELETE", "manifests/1", "delete"),
    ("DELETE", "manifests/MANIFEST", "delete"),
    ("DELETE", "blobs/BLOB", "delete"),
]
REPOSITORIES = ["demo/digits", "demo/new", "other/scorer"]


@dataclass
class World:
    """What is there, and how each caller signs in."""

    http: httpx.AsyncClient
    manifests: dict[str, Manifest]
    sign_in: dict[str, dict[str, str]]

    def path(self, repository: str, template: str) -> str:
        manifest = self.manifests.get(repository, self.manifests["demo/digits"])
        words = {"MANIFEST": manifest.digest, "BLOB": manifest.config.digest, "UPLOAD": "0" * 32}
        return f"/v2/{repository}/" + re.sub("MANIFEST|BLOB|UPLOAD", lambda found: words[found[0]], template)


@pytest.fixture
async def world(anonymous: httpx.AsyncClient, credentials: RegistryCredentials, clock: Clock) -> World:
    manifests = {}
    for repository in ("demo/digits", "other/scorer"):
        workspace = repository.partition("/")[0]
        admin = credentials.set_admin_enabled(workspace, True)
        anonymous.headers.update(basic(workspace, admin.passwords[0]))
        manifests[repository] = await push_image(anonymous, repository=repository, layer=repository.encode())
    del anonymous.headers["Authorization"]
    off = credentials.set_admin_enabled("third", False)
    sign_in = {
        "nobody": {},
        "wrong password": basic("demo", "wrong"),
        "disabled admin": basic("third", off.passwords[0]),
        "admin": basic("demo", credentials.admin("demo").passwords[1]),
        "other admin": basic("other", credentials.admin("other").passwords[0]),
        "owner": basic("token", "owner"),
        "device": basic("press-4", SIGNATURE),
    }
    for name, repositories, actions, expires_at in (
        ("expired", "demo/*", ALL, clock.now + 1),
        ("disabled", "demo/*", ALL, None),
        ("pull", "demo/digits", ("pull",), None),
        ("push", "demo/digits", ("pull", "push"), None),
        ("delete", "demo/digits", ("delete",), None),
        ("list", "demo/*", ("list",), None),
        ("folder", "demo/*", ("pull",), None),
    ):
        issued = credentials.tokens.create("demo", name, [Scope.of(repositories, *actions)], expires_at=expires_at)
        sign_in[f"{name} token"] = basic(issued.token.username, issued.password)
    credentials.tokens.set_enabled("demo", "disabled", False)
    clock.now += 1
    return World(anonymous, manifests, sign_in)


async def token_for(world: World, caller: Caller, response: httpx.Response) -> dict[str, str]:
    """Get what the challenge of *response* asks for, as Docker does."""
    challenge = response.headers["www-authenticate"]
    scopes = re.findall(r'scope="([^"]*)"', challenge)
    answer = await world.http.get(
        "/v2/token", headers=world.sign_in[caller.name], params=[("scope", scope) for scope in scopes]
    )
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
async def test_every_endpoint_with_a_password(world: World, caller: Caller) -> None:
    for repository in REPOSITORIES:
        for method, template, action in ENDPOINTS:
            response = await world.http.request(
                method, world.path(repository, template), headers=world.sign_in[caller.name]
            )
            check(response, caller, action, repository, f"{method} {template} in {repository}")


@pytest.mark.parametrize("caller", [one for one in CALLERS if one.is_known], ids=lambda caller: caller.name)
async def test_every_endpoint_with_the_token_that_it_asks_for(world: World, caller: Caller) -> None:
    for repository in REPOSITORIES:
        for method, template, action in ENDPOINTS:
            path = world.path(repository, template)
            challenged = await world.http.request(method, path)
            assert challenged.status_code == 401
            headers = await token_for(world, caller, challenged)
            response = await world.http.request(method, path, headers=headers)
            check(response, caller, action, repository, f"{method} {template} in {repository}")


def check(response: httpx.Response, caller: Caller, action: str, repository: str, what: str) -> None:
    if not caller.is_known:
        assert response.status_code in (401, 429), what
    elif not caller.allows(action, repository):
        assert response.status_code == 403, what
    else:
        # Allowed: what comes then is for others to test; here what is asked for may be gone already.
        assert response.status_code not in (401, 403, 429, 500), what


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
async def test_the_catalogue_shows_what_one_may_see(world: World, caller: Caller) -> None:
    response = await world.http.get("/v2/_catalog", headers=world.sign_in[caller.name])
    if not caller.is_known:
        assert response.status_code in (401, 429)
        return
    held = [name for name in ("demo/digits", "other/scorer") if caller.allows("list", name)]
    assert response.json() == {"repositories": held}
    headers = await token_for(world, caller, await world.http.get("/v2/_catalog"))
    assert (await world.http.get("/v2/_catalog", headers=headers)).json() == {"repositories": held}
    narrow = await world.http.get("/v2/token", headers=world.sign_in[caller.name])
    unasked = await world.http.get("/v2/_catalog", headers={"Authorization": f"Bearer {narrow.json()['token']}"})
    assert unasked.status_code == 401
    assert 'scope="registry:catalog:*"' in unasked.headers["www-authenticate"]


@pytest.mark.parametrize("source", ["demo/digits", "other/scorer", "demo/missing", ""])
@pytest.mark.parametrize("name", ["admin", "other admin", "owner", "push token", "device"])
async def test_a_mount_needs_the_right_to_pull_from_the_source(world: World, name: str, source: str) -> None:
    caller = next(one for one in CALLERS if one.name == name)
    blob = world.manifests.get(source, world.manifests["other/scorer"]).layers[0].digest
    target = "other/mounted" if name == "other admin" else "demo/digits" if name == "push token" else "demo/mounted"
    query = {"mount": blob} | ({"from": source} if source else {})
    headers = world.sign_in[name]
    response = await world.http.post(f"/v2/{target}/blobs/uploads/", params=query, headers=headers)
    if name == "device":
        assert response.status_code == 403
        return
    is_there = any(
        caller.allows("pull", where) and blob in [layer.digest for layer in manifest.layers]
        for where, manifest in world.manifests.items()
        if source in ("", where)
    )
    assert response.status_code == (201 if is_there else 202)
    found = await world.http.head(f"/v2/{target}/blobs/{blob}", headers=world.sign_in["owner"])
    assert found.status_code == (200 if is_there or (target == "demo/digits" and source == target) else 404)


async def test_an_upload_of_one_repository_is_not_reached_through_another(world: World) -> None:
    begun = await world.http.post("/v2/demo/digits/blobs/uploads/", headers=world.sign_in["admin"])
    upload = begun.headers["location"].rsplit("/", 1)[-1]
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        path = f"/v2/other/scorer/blobs/uploads/{upload}?digest={Digest.of(b'')}"
        response = await world.http.request(method, path, headers=world.sign_in["other admin"])
        assert response.status_code == 404
    still = await world.http.get(f"/v2/demo/digits/blobs/uploads/{upload}", headers=world.sign_in["admin"])
    assert still.status_code == 204
