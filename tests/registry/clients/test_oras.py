"""oras, the Python library: artifacts, and what refers to them."""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.registry.clients.documented import block_of
from tests.registry.clients.site import Site
from tests.registry.clients.tools import lack
from tests.registry_process import running_registry

from sanderling.oci import Digest

try:
    import oras.client
    import oras.oci
    import requests
except ModuleNotFoundError:
    oras = None

TYPE = "application/vnd.example.model"


@contextmanager
def oras_of(site: Site, user: str, password: str, **options: str) -> "Iterator[oras.client.OrasClient]":
    client = oras.client.OrasClient(hostname=site.address, tls_verify=str(site.ca), **options)
    client.auth.set_basic_auth(user, password)
    with client.session:
        yield client


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own, with a home of its own: oras reads and writes ~/.docker/config.json."""
    if oras is None:
        lack("oras is not installed (scripts/setup installs it)")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oras.decorator.time.sleep", lambda _: None)  # what is refused it tries again for two minutes
    (tmp_path / "model.onnx").write_bytes(secrets.token_bytes(100_000))


@pytest.fixture
def client(site: Site) -> "Iterator[oras.client.OrasClient]":
    with oras_of(site, "admin", site.password) as client:
        yield client


def test_a_file_is_pushed_pulled_listed_and_deleted(site: Site, name: str, tmp_path: Path) -> None:
    client = oras.client.OrasClient(hostname=site.address, tls_verify=str(site.ca))
    with client.session:
        said = client.login("admin", site.password, hostname=site.address)
        assert said == {"Status": "Login Succeeded"}
        for tag in ("1", "2"):
            (tmp_path / "notes.txt").write_text(tag)
            pushed = client.push(f"{name}:{tag}", files=[f"model.onnx:{TYPE}", "notes.txt"])
            assert pushed.status_code == 201
        pulled = client.pull(f"{name}:1", outdir="out")
        assert [Path(one).name for one in pulled] == ["model.onnx", "notes.txt"]
        assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
        assert client.get_tags(name) == ["1", "2"]
        assert client.delete_tags(name, "1") == ["1"]
        assert client.get_tags(name) == ["2"]


def test_a_client_that_first_looks_can_delete(client: "oras.client.OrasClient", site: Site, name: str) -> None:
    client.push(f"{name}:1", files=["model.onnx"])
    with oras_of(site, "admin", site.password) as other:
        assert other.delete_tags(name, ["1", "none"]) == ["1"]


@pytest.mark.parametrize("backend", ["token", "basic"])
@pytest.mark.parametrize("chunk_size", [30_000, 100_000, 1_000_000])
def test_a_file_is_pushed_in_chunks(site: Site, name: str, backend: str, chunk_size: int, tmp_path: Path) -> None:
    with oras_of(site, "admin", site.password, auth_backend=backend) as client:
        client.push(f"{name}:1", files=["model.onnx"], do_chunked=True, chunk_size=chunk_size)
        client.pull(f"{name}:1", outdir="out")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_a_folder_and_an_empty_file_are_pushed(client: "oras.client.OrasClient", name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words").write_text("words")
    (tmp_path / "nothing").touch()
    client.push(f"{name}:1", files=["data", "nothing"], manifest_annotations={"made-by": "a test"})
    client.pull(f"{name}:1", outdir="out")
    assert (tmp_path / "out" / "data" / "words").read_text() == "words"
    assert (tmp_path / "out" / "nothing").read_bytes() == b""
    assert client.get_manifest(f"{name}:1")["annotations"] == {"made-by": "a test"}


def test_what_is_attached_is_found(client: "oras.client.OrasClient", site: Site, name: str, tmp_path: Path) -> None:
    client.push(f"{name}:1", files=["model.onnx"])
    model = client.get_manifest(f"{name}:1")
    subject = oras.oci.Subject.from_manifest(model)
    (tmp_path / "sbom.json").write_text("{}")
    attached = client.push(
        f"{name}:sbom", files=["sbom.json:application/json"], manifest_config="none:application/vnd.example.sbom",
        subject=subject,
    )  # fmt: skip
    assert attached.headers["OCI-Subject"] == subject.digest
    # The library has no command for it: distribution-spec 1.1, "Listing Referrers".
    repository = name.partition("/")[2]
    with site.http() as http:
        index = http.get(f"/v2/{repository}/referrers/{subject.digest}").json()
        (found,) = index["manifests"]
        assert found["artifactType"] == "application/vnd.example.sbom"
        filtered = http.get(f"/v2/{repository}/referrers/{subject.digest}", params={"artifactType": "other/type"})
        assert (filtered.json()["manifests"], filtered.headers["OCI-Filters-Applied"]) == ([], "artifactType")
    assert client.pull(f"{name}@{found['digest']}", outdir="out") == [str(tmp_path / "out" / "sbom.json")]


def test_without_our_authority_nothing_is_sent(site: Site, name: str) -> None:
    client = oras.client.OrasClient(hostname=site.address)
    with client.session, pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        client.push(f"{name}:1", files=["model.onnx"])


def test_a_wrong_password_changes_nothing(site: Site) -> None:
    user, _ = site.new_user()
    name = f"{site.address}/{user}/digits"
    with oras_of(site, user, "wrong") as client:
        with pytest.raises(ValueError, match="Cannot respond to request for authentication"):
            client.push(f"{name}:1", files=["model.onnx"])
    with site.http() as http:
        assert http.get(f"/v2/{user}/digits/tags/list").status_code == 404
    user, _ = site.new_user()
    with oras_of(site, user, "wrong", auth_backend="basic") as client:
        with pytest.raises(ValueError, match="the user name or the password is wrong"):
            client.push(f"{site.address}/{user}/digits:1", files=["model.onnx"])


def test_a_token_that_expired_is_said_so(site: Site, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with oras_of(site, "device", site.token("demo/*", "pull", ttl_s=-1), auth_backend="basic") as client:
        with pytest.raises(ValueError, match="Unauthorized"):
            client.pull(f"{name}:1")


def test_a_device_pulls_with_its_token_and_cannot_push(client: "oras.client.OrasClient", site: Site, name: str) -> None:
    client.push(f"{name}:1", files=["model.onnx"])
    with oras_of(site, "device", site.token("demo/*", "pull")) as device:
        device.pull(f"{name}:1", outdir="out")
    Path("another").write_bytes(secrets.token_bytes(10))
    with oras_of(site, "device", site.token("demo/*", "pull"), auth_backend="basic") as device:
        with pytest.raises(ValueError, match="device may not push demo/"):
            device.push(f"{name}:2", files=["another"])


def test_json_is_kept_byte_for_byte(client: "oras.client.OrasClient", site: Site, name: str) -> None:
    pushed = client.push(f"{name}:1", files=["model.onnx"])
    with site.http() as http:
        raw = http.get(f"/v2/{name.partition('/')[2]}/manifests/1").content
    assert Digest.of(raw) == pushed.headers["Docker-Content-Digest"]
    assert json.loads(raw) == client.get_manifest(f"{name}:1")


def test_where_nobody_signs_in_everything_goes(tmp_path: Path) -> None:
    with running_registry(tmp_path / "open", "--no-auth", "--http") as registry:
        client = oras.client.OrasClient(hostname=registry.login_server, insecure=True)
        with client.session:
            client.push(f"{registry.login_server}/any/name:1", files=["model.onnx"])
            assert client.get_tags(f"{registry.login_server}/any/name") == ["1"]
            assert client.delete_tags(f"{registry.login_server}/any/name", "1") == ["1"]


def test_the_documentation_is_right(site: Site, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(site.ca.read_bytes())
    (tmp_path / "password").write_text(site.password)
    program = f"import warnings; warnings.simplefilter('ignore'); REGISTRY = {site.address!r}\n{block_of('oras')}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
