"""The tools of the field read what we write, and we read what they write: the same digests, both ways."""

import asyncio
import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sanderling.oci import Digest, ImageConfig, Index, Manifest, Platform
from sanderling.transfer import Credential, Patience, RegistryClient
from sanderling.transfer.copying import CopyResult, copy
from sanderling.transfer.places import Address, LayoutPlace, RegistryPlace, place_of
from sanderling.transfer.places.port import Place
from tests.dockerd import running_dockerd
from tests.registry.serving import served
from tests.transfer.images import Made, content_of

DOCKER_REGISTRY = shutil.which("docker-registry")
needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")


def copied(
    source: str,
    target: str,
    known: Credential | None = None,
    platform: str | None = None,
    referrers: bool = False,
) -> CopyResult:
    """Copy as the command line does, on a loop of its own."""

    def connect(address: Address) -> RegistryClient:
        return RegistryClient(
            address.registry, address.repository, known, is_plain_http=True, patience=Patience(2, 0.1)
        )

    async def work() -> CopyResult:
        there, here = Address.parse(source), Address.parse(target)
        origin, goal = place_of(there, connect), place_of(here, connect)
        try:
            only = None if platform is None else Platform.parse(platform)
            names = [(there.reference, here.reference)]
            return await copy(origin, goal, names, platform=only, referrers=referrers)
        finally:
            await origin.aclose()
            await goal.aclose()

    return asyncio.run(work())


@pytest.fixture
def made() -> Made:
    made = Made()
    made.name(made.index(made.image("amd64"), made.image("arm64", packed=False)), "1")
    return made


class Skopeo:
    """Runs skopeo as the admin user of our registry; `REGISTRY` in a command is its address."""

    def __init__(self, address: str, password: str, folder: Path) -> None:
        self.address, self.password, self.folder = address, password, folder
        (folder / "auth.json").write_text(
            json.dumps({"auths": {address: {"auth": base64.b64encode(f"demo:{password}".encode()).decode()}}})
        )

    def __call__(self, verb: str, *arguments: str) -> str:
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"] if verb == "copy" else ["--tls-verify=false"]
        words = [word.replace("REGISTRY", f"docker://{self.address}") for word in arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        environment["REGISTRY_AUTH_FILE"] = str(self.folder / "auth.json")
        command = ["skopeo", "--insecure-policy", verb, *insecure, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def skopeo(tmp_path: Path) -> Iterator[Skopeo]:
    (tmp_path / "server").mkdir()
    with served(tmp_path / "server") as (address, credentials):
        yield Skopeo(address, credentials.set_admin_enabled("demo", True).passwords[0], tmp_path)


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[str]:
    """Debian's docker-registry on a free port; it knows no referrers and cannot take up uploads."""
    if DOCKER_REGISTRY is None:
        pytest.skip("docker-registry is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "store")}, "delete": {"enabled": True}},
        "http": {"addr": address},
        "log": {"level": "error"},
    }
    (tmp_path / "config.yml").write_text(json.dumps(config))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([DOCKER_REGISTRY, "serve", str(tmp_path / "config.yml")], stdout=log, stderr=log)
    try:
        host, port = address.split(":")
        for _ in range(200):
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                socket.create_connection((host, int(port)), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@needs_skopeo
def test_skopeo_reads_our_layouts_and_archives(made: Made, skopeo: Skopeo, tmp_path: Path) -> None:
    known = Credential("demo", skopeo.password)
    made.write(tmp_path / "in")
    copied(f"oci:{tmp_path}/in:1", f"{skopeo.address}/demo/a:1", known)
    for ours in (f"oci:{tmp_path}/ours:1", f"oci-archive:{tmp_path}/ours.tar:1"):
        copied(f"{skopeo.address}/demo/a:1", ours, known)
        shutil.rmtree(tmp_path / "theirs", ignore_errors=True)
        skopeo("copy", "--all", "--preserve-digests", ours, f"oci:{tmp_path}/theirs:1")
        assert content_of(tmp_path / "theirs") == content_of(tmp_path / "in")


@needs_skopeo
def test_we_read_skopeos_layouts_and_archives(made: Made, skopeo: Skopeo, tmp_path: Path) -> None:
    made.write(tmp_path / "in")
    for theirs in (f"oci:{tmp_path}/theirs:1", f"oci-archive:{tmp_path}/theirs.tar:1"):
        skopeo("copy", "--all", "--preserve-digests", f"oci:{tmp_path}/in:1", theirs)
        shutil.rmtree(tmp_path / "ours", ignore_errors=True)
        result = copied(theirs, f"oci:{tmp_path}/ours:1")
        assert result.digests["1"] == made.listed[0].digest
        assert content_of(tmp_path / "ours") == content_of(tmp_path / "in")


@needs_skopeo
def test_docker_archives_go_both_ways_and_keep_config_and_layers(made: Made, skopeo: Skopeo, tmp_path: Path) -> None:
    known = Credential("demo", skopeo.password)
    made.write(tmp_path / "in")
    for architecture in ("amd64", "arm64"):
        ours, theirs = f"docker-archive:{tmp_path}/ours.tar:demo/a:1", f"docker-archive:{tmp_path}/theirs.tar:demo/a:1"
        copied(f"oci:{tmp_path}/in:1", ours, platform=f"linux/{architecture}")
        (tmp_path / "theirs.tar").unlink(missing_ok=True)
        skopeo("copy", ours, theirs)
        first = copied(ours, f"{skopeo.address}/demo/{architecture}:ours", known)
        second = copied(theirs, f"{skopeo.address}/demo/{architecture}:theirs", known)
        assert first.digests["ours"] == second.digests["theirs"]
        seen = json.loads(skopeo("inspect", "--config", f"REGISTRY/demo/{architecture}:ours"))
        assert seen["architecture"] == architecture


def test_debians_registry_takes_and_gives_everything(made: Made, docker_registry: str, tmp_path: Path) -> None:
    made.write(tmp_path / "in")
    top = made.listed[0].digest
    assert copied(f"oci:{tmp_path}/in:1", f"{docker_registry}/demo/a:1").digests["1"] == top
    mounted = copied(f"{docker_registry}/demo/a:1", f"{docker_registry}/demo/b:1")
    assert (mounted.mounted_blobs, mounted.sent_bytes) == (4, 0)
    assert copied(f"{docker_registry}/demo/b@{top}", f"oci:{tmp_path}/out:1").digests["1"] == top
    assert content_of(tmp_path / "out") == content_of(tmp_path / "in")


def test_debians_registry_gets_a_tag_for_the_referrers_that_it_does_not_know(
    made: Made, docker_registry: str, tmp_path: Path
) -> None:
    top = made.listed[0]
    first = Manifest.parse(made.blobs[Index.parse(made.blobs[top.digest]).manifests[0].digest])
    signature = made.signature(first)
    made.write(tmp_path / "in")

    async def work() -> list[Digest]:
        source: Place = LayoutPlace(tmp_path / "in")
        target = RegistryPlace(RegistryClient(docker_registry, "demo/a", is_plain_http=True))
        try:
            await copy(source, target, [("1", "1")], referrers=True)
            assert (await target.resolve("1")).digest == top.digest
            return [one.digest for one in await target.referrers(first.digest)]
        finally:
            await target.aclose()

    assert asyncio.run(work()) == [signature.digest]


@needs_skopeo
def test_referrers_go_through_our_registry(made: Made, skopeo: Skopeo, tmp_path: Path) -> None:
    first = Manifest.parse(made.blobs[Index.parse(made.blobs[made.listed[0].digest]).manifests[0].digest])
    made.signature(first)
    made.signature(Index.parse(made.blobs[made.listed[0].digest]), "application/x-other")
    known = Credential("demo", skopeo.password)
    for source, target in (
        (f"oci:{made.write(tmp_path / 'in')}:1", f"{skopeo.address}/demo/a:1"),
        (f"{skopeo.address}/demo/a:1", f"{skopeo.address}/demo/b:1"),
        (f"{skopeo.address}/demo/b:1", f"oci:{tmp_path}/out:1"),
    ):
        copied(source, target, known, referrers=True)
    assert content_of(tmp_path / "out") == content_of(tmp_path / "in")


@pytest.mark.docker
def test_docker_loads_what_we_write_and_we_read_what_it_saves(made: Made, tmp_path: Path) -> None:
    made.write(tmp_path / "in")
    written = copied(f"oci:{tmp_path}/in:1", f"docker-archive:{tmp_path}/ours.tar:demo/a:1", platform="linux/amd64")
    config = _config(tmp_path / "in", made, "amd64")
    with running_dockerd("--iptables=false", "--ip6tables=false") as address:

        def docker(*arguments: str) -> str:
            environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": address, "HOME": str(tmp_path)}
            done = subprocess.run(["docker", *arguments], capture_output=True, text=True, env=environment, timeout=60)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert "demo/a:1" in docker("load", "-i", f"{tmp_path}/ours.tar")
        assert docker("image", "inspect", "--format", "{{.Id}}", "demo/a:1").strip() in (
            config,
            written.digests["demo/a:1"],
        )
        docker("tag", "demo/a:1", "demo/b:2")
        docker("save", "-o", f"{tmp_path}/theirs.tar", "demo/a:1", "demo/b:2")
    for name in ("demo/a:1", "demo/b:2"):
        copied(f"docker-archive:{tmp_path}/theirs.tar:{name}", f"oci:{tmp_path}/out:{name}")
    layout = LayoutPlace(tmp_path / "out")
    assert asyncio.run(layout.tags()) == ["demo/a:1", "demo/b:2"]
    assert config.partition(":")[2] in content_of(tmp_path / "out")


def _config(folder: Path, made: Made, architecture: str) -> str:
    """The digest of the config for *architecture*."""
    for content in made.blobs.values():
        if b'"rootfs"' in content and ImageConfig.parse(content).platform.architecture == architecture:
            return str(Digest.of(content))
    raise AssertionError
