"""A device pulls from its hub's registry with the identity it has at the hub."""

import ssl
from pathlib import Path

import httpx
import pytest
from tests.edge.cloud import Cloud, module
from tests.edge.worlds import MadeImage, file, make_image, tar

from sanderling.edge.content import ContentStore
from sanderling.edge.discovery import Discovery
from sanderling.edge.layout import Layout
from sanderling.edge.own_registry import OwnRegistry
from sanderling.edge.pull import Puller
from sanderling.errors import Denied
from sanderling.iot import ConnectionString, RegistryCredential
from sanderling.oci import Platform

pytestmark = pytest.mark.anyio
API = {"api-version": "2021-04-12"}


def image(text: bytes = b"x") -> MadeImage:
    return make_image(tar([file("data", text * 1000)]))


def own_registry(cloud: Cloud, folder: Path, connection: str) -> OwnRegistry:
    tls = ssl.create_default_context(cafile=str(cloud.ca))
    parsed = ConnectionString.parse(connection)
    return OwnRegistry(parsed, Discovery(Layout(folder), parsed, tls))


def puller(cloud: Cloud, folder: Path, connection: str) -> Puller:
    tls = ssl.create_default_context(cafile=str(cloud.ca))
    own = own_registry(cloud, folder, connection)
    return Puller(ContentStore(folder / "content"), Platform("linux", "amd64"), tls, own_registry=own)


@pytest.mark.parametrize("name", ["edge1", "press:4@hall", "100%"])
async def test_what_the_deployment_names_is_pulled_without_a_password(cloud: Cloud, tmp_path: Path, name: str) -> None:
    made = image()
    reference = cloud.push(made)
    connection = cloud.create_device(name) if name == "edge1" else create(cloud, name)
    deploy(cloud, name, reference)
    held = await puller(cloud, tmp_path / "d", connection).fetch(reference, [])
    assert held.digest == made.manifest.digest


def create(cloud: Cloud, name: str) -> str:
    cloud.hub.identities.create(name)
    from sanderling.hub.identities import IdentityChange

    cloud.hub.identities.update(name, None, IdentityChange(is_edge=True))
    return cloud.hub.device_connection_string(name, cloud.host)


def deploy(cloud: Cloud, name: str, *images: str) -> None:
    from urllib.parse import quote

    modules = {f"m{number}": module(reference) for number, reference in enumerate(images)}
    cloud.deploy(modules, device=quote(name, safe=""), has_credentials=False)


async def test_what_the_deployment_does_not_name_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    wanted, other = cloud.push(image(), "demo/wanted"), cloud.push(image(b"y"), "demo/other")
    connection = cloud.create_device()
    with pytest.raises(Denied, match="does not let this device pull"):
        await puller(cloud, tmp_path / "d", connection).fetch(wanted, [])
    cloud.deploy({"m": module(wanted)}, has_credentials=False)
    await puller(cloud, tmp_path / "d", connection).fetch(wanted, [])
    with pytest.raises(Denied, match="does not let this device pull"):
        await puller(cloud, tmp_path / "d", connection).fetch(other, [])


async def test_a_disabled_deleted_or_rekeyed_device_is_refused_at_once(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(image())
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)}, has_credentials=False)
    with cloud.client() as http:
        device = http.get("/devices/edge1", params=API).json()
        every = {"If-Match": "*"}
        http.put("/devices/edge1", params=API, json={**device, "status": "disabled"}, headers=every).raise_for_status()
        with pytest.raises(Denied, match="is the device enabled"):
            await puller(cloud, tmp_path / "d", connection).fetch(reference, [])
        device["authentication"]["symmetricKey"] = {"primaryKey": "A" * 43 + "=", "secondaryKey": "B" * 43 + "="}
        http.put("/devices/edge1", params=API, json=device, headers=every).raise_for_status()
        with pytest.raises(Denied, match="was its key regenerated"):
            await puller(cloud, tmp_path / "d", connection).fetch(reference, [])
        fresh = cloud.hub.device_connection_string("edge1", cloud.host)
        await puller(cloud, tmp_path / "d", fresh).fetch(reference, [])
        http.delete("/devices/edge1", params=API, headers=every).raise_for_status()
        with pytest.raises(Denied):
            await puller(cloud, tmp_path / "e", fresh).fetch(reference, [])


async def test_credentials_of_the_manifest_go_first(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(image())
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)}, has_credentials=False)
    wrong = [RegistryCredential("r", cloud.host, cloud.username, "wrong")]
    with pytest.raises(Denied, match="registryCredentials"):
        await puller(cloud, tmp_path / "d", connection).fetch(reference, wrong)


async def test_the_signature_goes_to_the_hubs_own_registry_alone(cloud: Cloud, tmp_path: Path) -> None:
    own = own_registry(cloud, tmp_path / "d", cloud.create_device())
    assert await own.find_credential("registry.example") is None
    assert await own.find_credential(f"{cloud.host}0") is None
    found = await own.find_credential(cloud.host.upper())
    assert found is not None
    assert found.password.startswith("SharedAccessSignature ")
    assert found.password not in repr(found)
    cloud.stop()
    remembered = await own.find_credential(cloud.host)
    assert remembered is not None


async def test_a_device_cannot_do_more_than_pull(cloud: Cloud, tmp_path: Path) -> None:
    made = image()
    reference = cloud.push(made)
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)}, has_credentials=False)
    found = await own_registry(cloud, tmp_path / "d", connection).find_credential(cloud.host)
    assert found is not None
    tls = ssl.create_default_context(cafile=str(cloud.ca))
    auth = httpx.BasicAuth(found.username, found.password)
    async with httpx.AsyncClient(base_url=f"https://{cloud.host}", verify=tls, auth=auth) as http:
        assert (await http.get("/v2/_catalog")).json() == {"repositories": ["demo/tiny"]}
        assert (await http.get("/v2/demo/tiny/tags/list")).json()["tags"] == ["1"]
        for method, path in (
            ("PUT", "manifests/2"),
            ("DELETE", "manifests/1"),
            ("POST", "blobs/uploads/"),
            ("DELETE", f"blobs/{made.manifest.config.digest}"),
        ):
            answer = await http.request(method, f"/v2/demo/tiny/{path}")
            assert answer.status_code == 403, (method, path)
            assert "a device may pull what its deployment names" in answer.text
