"""Real clients pull through our registry what Debian's docker-registry has; then that one is stopped."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.dockerd import running_dockerd
from tests.registry.clients.images import blobs_of, for_platforms
from tests.registry_process import RegistryProcess, running_registry

PEER = shutil.which("docker-registry")
SKOPEO = shutil.which("skopeo")
DOCKER = shutil.which("docker")
pytestmark = pytest.mark.skipif(
    PEER is None or SKOPEO is None, reason="Debian's packages docker-registry and skopeo are needed"
)
USER, PASSWORD = "site", "a-password-of-the-upstream"
# bcrypt of PASSWORD, cost 4.
HTPASSWD = "$2y$04$abcdefghijklmnopqrstuu9lIUAEaNaiXHrwYzPgW4pLAkZFixyGa"


@dataclass
class Peer:
    """A running docker-registry with basic authentication."""

    address: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def count(self, words: str) -> int:
        """Return how many requests its log has with *words*."""
        return sum(words in line and '" 20' in line for line in self.log.read_text().splitlines())


@contextmanager
def running_peer(folder: Path) -> Iterator[Peer]:
    assert PEER is not None
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    (folder / "htpasswd").write_text(f"{USER}:{HTPASSWD}\n")
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "peer", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PEER, "serve", str(folder / "config.yml")], stdout=output, stderr=output, env={"PATH": os.environ["PATH"]}
        )
    try:
        _wait_for(address)
        yield Peer(address, process, log)
    finally:
        process.kill()
        process.wait(20)


def _wait_for(address: str) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def skopeo(folder: Path, *arguments: str) -> str:
    assert SKOPEO is not None
    policy = folder / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    command = [SKOPEO, f"--policy={policy}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class World:
    peer: Peer
    cache: RegistryProcess
    folder: Path

    @property
    def image(self) -> str:
        return f"{self.cache.login_server}/hub/library/app:1"

    def pull(self, name: str) -> dict[str, bytes]:
        out = self.folder / name
        skopeo(self.folder, "copy", "--all", "--src-tls-verify=false", f"docker://{self.image}", f"oci:{out}:1")
        return blobs_of(out)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    for_platforms(tmp_path / "in", "amd64", "arm64")
    with running_peer(tmp_path / "peer") as peer:
        skopeo(
            tmp_path,
            "copy",
            "--all",
            "--dest-tls-verify=false",
            f"--dest-creds={USER}:{PASSWORD}",
            f"oci:{tmp_path}/in:1",
            f"docker://{peer.address}/library/app:1",
        )
        (tmp_path / "peer.secret").write_text(PASSWORD + "\n")
        upstreams = tmp_path / "upstreams.toml"
        upstreams.write_text(
            f'[hub]\nregistry = "{peer.address}"\nusername = "{USER}"\npassword_file = "peer.secret"\n'
            "plain_http = true\nmirror = true\nttl = 0\n"
        )
        options = ("--no-auth", "--http", "--upstreams", str(upstreams))
        with running_registry(tmp_path / "cache", *options) as cache:
            yield World(peer, cache, tmp_path)


def test_skopeo_needs_the_upstream_once(world: World) -> None:
    expected = blobs_of(world.folder / "in")
    assert world.pull("first") == expected
    world.peer.stop()
    assert world.pull("second") == expected
    digest = json.loads(skopeo(world.folder, "inspect", "--tls-verify=false", f"docker://{world.image}"))["Digest"]
    assert digest
    assert PASSWORD not in world.cache.log.read_text()


def test_docker_needs_the_upstream_once(world: World) -> None:
    assert DOCKER is not None
    with running_dockerd("--registry-mirror", world.cache.told["url"]) as address:

        def docker(*arguments: str) -> str:
            command = [str(DOCKER), "-H", address, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        docker("pull", world.image)
        first = docker("image", "inspect", "--format", "{{.Id}}", world.image)
        layers = len(json.loads(docker("image", "inspect", world.image))[0]["RootFS"]["Layers"])
        assert layers == 1
        world.peer.stop()
        docker("rmi", world.image)
        docker("pull", world.image)
        assert docker("image", "inspect", "--format", "{{.Id}}", world.image) == first


def test_docker_has_it_for_a_mirror_of_its_own_registry(world: World) -> None:
    """dockerd asks a mirror for `library/app`, and names no registry."""
    expected = world.pull("first")
    world.peer.stop()
    world.cache.stop()
    (world.folder / "docker.toml").write_text('[hub]\nregistry = "docker.io"\nmirror = true\nenabled = false\n')
    options = ("--no-auth", "--http", "--upstreams", str(world.folder / "docker.toml"))
    with (
        running_registry(world.folder / "cache", *options) as cache,
        running_dockerd("--registry-mirror", cache.told["url"]) as address,
    ):
        command = [str(DOCKER), "-H", address]
        pulled = subprocess.run([*command, "pull", "app:1"], capture_output=True, text=True, timeout=120, check=False)
        assert pulled.returncode == 0, pulled.stderr
        image = subprocess.run([*command, "image", "inspect", "app:1"], capture_output=True, check=True).stdout
    assert json.loads(image)[0]["RootFS"]["Layers"]
    assert expected


def test_containerd_s_way_of_asking_a_mirror(world: World) -> None:
    with world.cache.client() as client:
        path, ns = "/v2/library/app/manifests/1", {"ns": world.peer.address}
        accept = {"Accept": "application/vnd.oci.image.index.v1+json"}
        assert client.get(path, params=ns, headers=accept).status_code == 200
        assert client.get(path, headers=accept).status_code == 404


def test_twenty_clients_at_once_are_one_request_a_blob(world: World) -> None:
    with world.cache.client() as client:
        index = client.get("/v2/hub/library/app/manifests/1").json()
        manifest = client.get(f"/v2/hub/library/app/manifests/{index['manifests'][0]['digest']}").json()
        path = f"/v2/hub/library/app/blobs/{manifest['layers'][0]['digest']}"

        def size(_: int) -> int:
            with httpx.Client(base_url=world.cache.told["url"], timeout=60, trust_env=False) as own:
                return len(own.get(path).content)

        with ThreadPoolExecutor(20) as pool:
            sizes = set(pool.map(size, range(20)))
    assert sizes == {manifest["layers"][0]["size"]}
    assert world.peer.count(f"GET {path.replace('/hub', '')}") == 1
