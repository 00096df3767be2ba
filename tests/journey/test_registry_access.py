"""The registry's credentials against the running server, with skopeo and the real edge runtime."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import pytest
from tests.conftest import Up
from tests.edge.worlds import MadeImage, file, make_image, tar
from tests.journey.terminal import free_ports

from sanderling.iot import ConnectionString, sas
from sanderling.sdk import Device, Workspace
from sanderling.sdk.client import Client

SKOPEO = shutil.which("skopeo")
pytestmark = pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed: scripts/test installs it as root")
WORKSPACE = "access"
WAIT_S = 60.0


@dataclass(frozen=True)
class World:
    """A workspace on the server, a folder, and skopeo that trusts the server's CA."""

    up: Up
    folder: Path

    @property
    def server(self) -> str:
        return self.up.url.removeprefix("https://")

    def cli(self, *arguments: str | Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
        done = self.up.cli(*arguments, cwd=self.folder)
        assert done.returncode == code, done.stderr
        return done

    def read(self, *arguments: str) -> Any:
        return json.loads(self.cli(*arguments, "--json").stdout)

    def skopeo(self, *arguments: str | Path, creds: str = "", stdin: str = "", fails: bool = False) -> str:
        """Run skopeo; REGISTRY in its arguments is the server's with the workspace."""
        assert SKOPEO is not None
        words = [str(word).replace("REGISTRY", f"docker://{self.server}/{WORKSPACE}") for word in arguments]
        sides = {"copy": ("--src-", "--dest-")}.get(words[0], ("--",))
        options = [f"{side}cert-dir={self.folder / 'certs'}" for side in sides]
        if creds:
            options += [f"{side}creds={creds}" for side in sides]
        policy = f"--policy={self.folder / 'policy.json'}"
        done = subprocess.run(
            [SKOPEO, policy, words[0], *options, *words[1:]], input=stdin, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def layout(self, image: MadeImage) -> Path:
        """Write *image* as an OCI layout; return its folder."""
        folder = self.folder / f"layout-{image.manifest.digest[7:19]}"
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for digest, content in {**image.blobs, image.manifest.digest: image.manifest.raw}.items():
            (blobs / str(digest).removeprefix("sha256:")).write_bytes(content)
        descriptor = image.manifest.descriptor().to_json()
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": "1"}
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return folder


@pytest.fixture(scope="module")
def world(up: Up, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(up, tmp_path_factory.mktemp("access"))
    (made.folder / "certs").mkdir()
    shutil.copy(up.ca_file, made.folder / "certs" / "ca.crt")
    (made.folder / "policy.json").write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    made.cli("init", "--name", WORKSPACE)
    return made


@pytest.fixture(scope="module")
def image(world: World) -> MadeImage:
    """An image in the repository `digits`, pushed with a named token."""
    made = make_image(tar([file("data", b"d" * 100_000)]))
    token = world.read("registry", "token", "create", "ci", "--repository", "digits", "--pull", "--push")
    creds = f"{token['username']}:{token['password']}"
    world.skopeo("copy", f"oci:{world.layout(made)}:1", "REGISTRY/digits:1", creds=creds)
    return made


def test_a_token_pushes_where_it_may_and_nowhere_else(world: World, image: MadeImage) -> None:
    token = world.read("registry", "token", "regenerate", "ci")
    creds = f"{token['username']}:{token['password']}"
    assert json.loads(world.skopeo("inspect", "REGISTRY/digits:1", creds=creds))["Digest"] == image.manifest.digest
    source = f"oci:{world.layout(image)}:1"
    assert is_denied(world.skopeo("copy", source, "REGISTRY/other:1", creds=creds, fails=True))
    assert is_denied(world.skopeo("delete", "REGISTRY/digits:1", creds=creds, fails=True))
    world.cli("registry", "token", "disable", "ci")
    refused = world.skopeo("inspect", "REGISTRY/digits:1", creds=creds, fails=True)
    assert "unauthorized" in refused or "authentication required" in refused
    world.cli("registry", "token", "enable", "ci")
    world.skopeo("inspect", "REGISTRY/digits:1", creds=creds)


def test_a_persons_login_signs_skopeo_in(world: World, image: MadeImage) -> None:
    password = world.cli("registry", "login", "--print").stdout.strip()
    auth = world.folder / "auth.json"
    login = ("login", "--authfile", auth, "--username", "token", "--password-stdin", world.server)
    assert "Login Succeeded" in world.skopeo(*login, stdin=password)
    seen = json.loads(world.skopeo("inspect", "--authfile", auth, "REGISTRY/digits:1"))
    assert seen["Digest"] == image.manifest.digest


def is_denied(said: str) -> bool:
    """Known, and without the right; the words differ with what skopeo was doing."""
    return "denied" in said.lower() or "403 (Forbidden)" in said


def make_device(world: World, name: str) -> Path:
    """Register a device; return the file with its connection string."""
    world.cli("device", "create", name)
    world.cli("device", "connection-string", name, "--to", f"{name}.secret")
    return world.folder / f"{name}.secret"


def signature_of(secret: Path, lives_s: int = 600) -> str:
    parsed = ConnectionString.parse(secret.read_text())
    resource = f"{parsed.host_name}/devices/{parsed.device_id}"
    return sas.build(resource, parsed.shared_access_key or "", int(time()) + lives_s)


def test_skopeo_pulls_as_a_device_what_its_deployment_names(world: World, image: MadeImage, tmp_path: Path) -> None:
    secret = make_device(world, "press-1")
    creds = f"press-1:{signature_of(secret)}"
    copy = ("copy", "REGISTRY/digits:1", f"oci:{tmp_path}/out:1")
    assert is_denied(world.skopeo(*copy, creds=creds, fails=True))
    reference = f"{world.server}/{WORKSPACE}/digits:1"
    world.cli("deploy", "--device", "press-1", "--image", reference, "--no-wait")
    world.skopeo(*copy, creds=creds)
    pushed = world.skopeo("copy", f"oci:{tmp_path}/out:1", "REGISTRY/digits:2", creds=creds, fails=True)
    assert is_denied(pushed)
    expired = f"press-1:{signature_of(secret, -1)}"
    assert "unauthorized" in world.skopeo("inspect", "REGISTRY/digits:1", creds=expired, fails=True)
    world.cli("device", "delete", "press-1", "--yes")
    assert "unauthorized" in world.skopeo("inspect", "REGISTRY/digits:1", creds=creds, fails=True)


def test_the_edge_runtime_pulls_with_its_own_identity_and_no_secret_is_in_its_twin(
    world: World, image: MadeImage, tmp_path: Path
) -> None:
    secret = make_device(world, "press-2")
    admin = world.read("registry", "credentials")
    assert admin["adminUserEnabled"] is False
    reference = f"{world.server}/{WORKSPACE}/digits:1"
    layer = tmp_path / "device" / "content" / "sha256" / image.manifest.layers[0].digest.hex
    with running_device(world, tmp_path, secret) as log:
        world.cli("deploy", "--device", "press-2", "--image", reference, "--no-wait")
        until(layer.exists, log)
    desired = agent_twin(world, "press-2")["desired"]
    assert desired["modules"]["digits"]["settings"]["image"] == reference
    assert desired["runtime"]["settings"]["registryCredentials"] == {}
    # Nor is any in what the runtime wrote down.
    assert "SharedAccessSignature" not in log.read_text()


def test_a_device_of_azures_runtime_gets_a_token_that_ends_with_it(world: World, image: MadeImage) -> None:
    make_device(world, "press-3")
    reference = f"{world.server}/{WORKSPACE}/digits:1"
    deploy = ("deploy", "--device", "press-3", "--image", reference, "--no-wait", "--registry-credentials")
    world.cli(*deploy, "--expires", "30d")
    (first,) = tokens_of(world, "press-3")
    assert first["scopes"] == [{"repositories": f"{WORKSPACE}/digits", "actions": ["pull"]}]
    assert first["expiresAt"]
    world.cli(*deploy)
    (second,) = tokens_of(world, "press-3")
    (credential,) = agent_twin(world, "press-3")["desired"]["runtime"]["settings"]["registryCredentials"].values()
    assert (credential["address"], credential["username"]) == (world.server, second["username"])
    world.skopeo("inspect", "REGISTRY/digits:1", creds=f"{credential['username']}:{credential['password']}")
    assert second["name"] != first["name"]
    world.cli("deploy", "--device", "press-3", "--image", reference, "--no-wait")
    assert tokens_of(world, "press-3") == []
    world.cli(*deploy)
    world.cli("device", "delete", "press-3", "--yes")
    assert tokens_of(world, "press-3") == []


def test_a_refused_deployment_leaves_no_token(world: World, image: MadeImage) -> None:
    make_device(world, "press-5")
    missing = f"{world.server}/{WORKSPACE}/digits:nix"
    for reference, text in ((missing, "digits:nix is not in"), ("elsewhere.example/x:1", "is not an image of")):
        deploy = ("deploy", "--device", "press-5", "--image", reference, "--no-wait", "--registry-credentials")
        assert text in world.cli(*deploy, code=2).stderr
    assert tokens_of(world, "press-5") == []


def agent_twin(world: World, device: str) -> dict[str, Any]:
    with Client(world.up.url, token=world.up.token, ca_file=world.up.ca_file) as client:
        return Device.get(Workspace(WORKSPACE, client), device).agent_twin()


def tokens_of(world: World, device: str) -> list[dict[str, Any]]:
    return [one for one in world.read("registry", "token", "list") if one["device"] == device]


@contextmanager
def running_device(world: World, folder: Path, secret: Path) -> Iterator[Path]:
    """`sanderling edge run` with its state in *folder*/device; gives its log, and ends it by Ctrl-C's signal."""
    log = folder / "device.log"
    command = [sys.executable, "-P", "-m", "sanderling.cli", "edge", "run", "--connection-string-file", str(secret)]
    command += ["--ca", str(world.up.ca_file), "--data", str(folder / "device")]
    command += ["--gateway-port", str(free_ports(1)[0])]
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        yield log
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def until(done: Callable[[], Any], log: Path) -> None:
    deadline = monotonic() + WAIT_S
    while not done():
        assert monotonic() < deadline, log.read_text()
        sleep(0.05)
