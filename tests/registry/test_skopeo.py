"""A true client of the field: skopeo pushes, pulls, lists and deletes."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registry.serving import served

from sanderling.blobs import BlobStore
from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, canonical_json, media_types
from sanderling.registry import RegistryCredentials, Scope

SKOPEO = shutil.which("skopeo")
pytestmark = pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed (Debian: apt-get install skopeo)")


class Skopeo:
    """Runs skopeo against one registry with the credentials of its admin user."""

    def __init__(self, address: str, credentials: RegistryCredentials, folder: Path) -> None:
        self.address, self.credentials, self.folder = address, credentials, folder
        self.password = credentials.set_admin_enabled("demo", True).passwords[0]
        self.policy = folder / "policy.json"
        self.policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def __call__(self, *arguments: str, creds: str | None = None, fails: bool = False) -> str:
        """Run a command; `REGISTRY` in it is ours. Return what it printed."""
        assert SKOPEO is not None
        creds = creds or f"demo:{self.password}"
        options = {
            "copy": ["--src-tls-verify=false", "--dest-tls-verify=false"],
        }.get(arguments[0], ["--tls-verify=false"])
        if arguments[0] == "copy":
            options += [f"--{side}-creds={creds}" for side in ("src", "dest")]
        else:
            options += [f"--creds={creds}"]
        command = [SKOPEO, f"--policy={self.policy}", arguments[0], *options]
        command += [word.replace("REGISTRY", f"docker://{self.address}") for word in arguments[1:]]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert (done.returncode != 0) is fails, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def skopeo(tmp_path: Path, blobs: BlobStore) -> Iterator[Skopeo]:
    (tmp_path / "server").mkdir()
    with served(tmp_path / "server", blobs) as (address, credentials):
        yield Skopeo(address, credentials, tmp_path)


def layer_of(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def write_layout(folder: Path, architectures: tuple[str, ...] = ("amd64",)) -> list[Manifest]:
    """Write an OCI layout with an image for each architecture, and an index when there are several."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(media_type: str, content: bytes) -> Descriptor:
        digest = Digest.of(content)
        (blobs / digest.hex).write_bytes(content)
        return Descriptor(media_type, digest, len(content))

    manifests = []
    for architecture in architectures:
        tar = layer_of("model.pkl", architecture.encode() + os.urandom(3_000_000))
        layer = keep(media_types.OCI_LAYER_GZIP, gzip.compress(tar, 1))
        config = {
            "os": "linux",
            "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
            "config": {"Entrypoint": ["/bin/true"]},
        }
        manifest = Manifest.build(keep(media_types.OCI_CONFIG, canonical_json(config)), [layer])
        keep(manifest.media_type, manifest.raw)
        manifests.append(manifest)
    if len(manifests) == 1:
        top = manifests[0].descriptor()
    else:
        platforms = [Platform("linux", architecture) for architecture in architectures]
        index = Index.build([m.descriptor(p) for m, p in zip(manifests, platforms, strict=True)])
        top = keep(index.media_type, index.raw)
    named = Descriptor(top.media_type, top.digest, top.size, {"org.opencontainers.image.ref.name": "1"})
    (folder / "index.json").write_bytes(Index.build([named]).raw)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return manifests


def blobs_of(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}


@pytest.mark.parametrize("world", ["files", "s3"], indirect=True)
def test_an_image_goes_there_and_back_unchanged(skopeo: Skopeo, tmp_path: Path) -> None:
    (manifest,) = write_layout(tmp_path / "in")
    skopeo("copy", f"oci:{tmp_path}/in:1", "REGISTRY/demo/digits:1")
    skopeo("copy", "REGISTRY/demo/digits:1", f"oci:{tmp_path}/out:1")
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")
    seen = json.loads(skopeo("inspect", "REGISTRY/demo/digits:1"))
    assert seen["Digest"] == manifest.digest
    assert seen["RepoTags"] == ["1"]


@pytest.mark.parametrize("world", ["files", "s3"], indirect=True)
def test_an_image_of_two_platforms_goes_there_and_back(skopeo: Skopeo, tmp_path: Path) -> None:
    write_layout(tmp_path / "in", ("amd64", "arm64"))
    skopeo("copy", "--all", f"oci:{tmp_path}/in:1", "REGISTRY/demo/digits:multi")
    skopeo("copy", "--all", "REGISTRY/demo/digits:multi", f"oci:{tmp_path}/out:1")
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")


def test_a_docker_schema_2_image_goes_there_and_back(skopeo: Skopeo, tmp_path: Path) -> None:
    write_layout(tmp_path / "in")
    skopeo("copy", "--format=v2s2", f"oci:{tmp_path}/in:1", "REGISTRY/demo/digits:docker")
    skopeo("copy", "REGISTRY/demo/digits:docker", f"dir:{tmp_path}/out")
    document = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert document["mediaType"] == media_types.DOCKER_MANIFEST
    skopeo("copy", f"dir:{tmp_path}/out", "REGISTRY/demo/digits:again")
    assert json.loads(skopeo("inspect", "--raw", "REGISTRY/demo/digits:again")) == document


def test_an_image_is_copied_between_repositories(skopeo: Skopeo, tmp_path: Path) -> None:
    write_layout(tmp_path / "in")
    skopeo("copy", f"oci:{tmp_path}/in:1", "REGISTRY/demo/a:1")
    skopeo("copy", "REGISTRY/demo/a:1", "REGISTRY/demo/b:1")
    assert json.loads(skopeo("list-tags", "REGISTRY/demo/b"))["Tags"] == ["1"]


def test_tags_are_listed_and_an_image_is_deleted(skopeo: Skopeo, tmp_path: Path) -> None:
    write_layout(tmp_path / "in")
    for tag in ("2", "1", "latest"):
        skopeo("copy", f"oci:{tmp_path}/in:1", f"REGISTRY/demo/digits:{tag}")
    assert json.loads(skopeo("list-tags", "REGISTRY/demo/digits"))["Tags"] == ["1", "2", "latest"]
    skopeo("delete", "REGISTRY/demo/digits:1")
    assert "manifest unknown" in skopeo("inspect", "REGISTRY/demo/digits:2", fails=True).lower()


def test_a_wrong_password_changes_nothing(skopeo: Skopeo, tmp_path: Path) -> None:
    write_layout(tmp_path / "in")
    for creds in ("demo:wrong", "nobody:x"):
        said = skopeo("copy", f"oci:{tmp_path}/in:1", "REGISTRY/demo/digits:1", creds=creds, fails=True)
        assert "unauthorized" in said or "authentication required" in said
    assert "404" in skopeo("list-tags", "REGISTRY/demo/digits", fails=True)


def test_the_admin_of_one_workspace_cannot_reach_another(skopeo: Skopeo, tmp_path: Path) -> None:
    write_layout(tmp_path / "in")
    said = skopeo("copy", f"oci:{tmp_path}/in:1", "REGISTRY/other/digits:1", fails=True)
    assert "403 (Forbidden)" in said


def test_a_device_pulls_with_its_token_and_cannot_push(skopeo: Skopeo, tmp_path: Path) -> None:
    write_layout(tmp_path / "in")
    skopeo("copy", f"oci:{tmp_path}/in:1", "REGISTRY/demo/digits:1")
    token = skopeo.credentials.issue("device", [Scope.of("demo/digits", "pull")], 60)
    skopeo("copy", "REGISTRY/demo/digits:1", f"oci:{tmp_path}/out:1", creds=f"device:{token}")
    said = skopeo("copy", f"oci:{tmp_path}/in:1", "REGISTRY/demo/digits:2", creds=f"device:{token}", fails=True)
    assert "denied" in said.lower()
