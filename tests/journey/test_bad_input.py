"""What one does wrong, against the running server: an error that names the thing and the way out, and nothing changed.

What is said here in words is in docs/bad-input.md too: `page` sees to that. Each room tests its own cases further;
the server's HTTPS port in use is with `sanderling up`, in tests/cli/test_up.py.
"""

import json
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
from tests.conftest import Up
from tests.edge.worlds import MadeImage, file, make_image, tar

from sanderling.demo.relay import Relay
from sanderling.sdk import Credentials, Deployment

PAGE = (Path(__file__).parents[2] / "docs" / "bad-input.md").read_text()
SCRIPT = "def init(): pass\ndef run(raw_data): return raw_data\n"
DEVICE = "press-4"
BIG_BYTES = 20_000_000
CUT_AFTER_BYTES = 1_000_000
WORKSPACE = "bad-input"


def page(text: str) -> str:
    """Return *text*, which the page of the documentation must have."""
    assert text in PAGE, f"docs/bad-input.md does not say: {text}"
    return text


@dataclass(frozen=True)
class World:
    """A folder with a workspace, an edge device with a connection string, and files to go wrong with."""

    up: Up
    folder: Path

    def cli(self, *arguments: str | Path, code: int = 0, **more: str) -> "subprocess.CompletedProcess[str]":
        done = self.up.cli(*arguments, cwd=self.folder, **more)
        assert done.returncode == code, done.stderr
        return done

    def read(self, *arguments: str) -> Any:
        return json.loads(self.cli(*arguments, "--json").stdout)

    def state(self) -> list[Any]:
        """All that a command could have changed."""
        lists = (("model", "list"), ("image", "list"), ("registry", "list"), ("device", "modules", DEVICE))
        devices = [one["deviceId"] for one in self.read("device", "list")]
        files = sorted(path.name for path in self.folder.iterdir())
        return [*(self.read(*command) for command in lists), devices, files]


@pytest.fixture(scope="module")
def world(up: Up, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(up, tmp_path_factory.mktemp("bad-input"))
    made.cli("init", "--name", WORKSPACE)
    made.cli("device", "create", DEVICE)
    made.cli("device", "connection-string", DEVICE, "--to", "press-4.secret")
    (made.folder / "locked.pkl").symlink_to("/proc/self/mem")  # unreadable, also for root
    (made.folder / "score.py").write_text(SCRIPT)
    (made.folder / "norun.py").write_text("def init(): pass\n")
    (made.folder / "noyaml.yml").write_text("dependencies:\n  - pip: [numpy\n")
    (made.folder / "unknown.yml").write_text("dependencies:\n  - pip:\n      - no-such-package-anywhere==1.0\n")
    server = up.url.removeprefix("https://")
    deployment = Deployment(f"{server}/{WORKSPACE}/nothing:1", "digits")
    (made.folder / "deployment.json").write_text(json.dumps(deployment.manifest))
    return made


@pytest.mark.parametrize(
    ("command", "code", "error", "way_out"),
    [
        (
            "model register model.pkl --name digits",
            2,
            "model.pkl is not there",
            "the file or folder that training wrote",
        ),
        ("model register locked.pkl --name digits", 2, "locked.pkl cannot be read: ", ""),
        ("model download nothing:1", 2, "no model 'nothing' in workspace '", "try: sanderling model list"),
        (
            "image build --name digits --script norun.py",
            2,
            "norun.py, line 1: the script has no function 'run'",
            "add 'def run(data): ...'",
        ),
        (
            "image build --name digits --script score.py --env noyaml.yml",
            2,
            "noyaml.yml, line 3: this is no YAML: expected ',' or ']'",
            "",
        ),
        (
            "image build --name digits --script score.py --model nothing",
            2,
            "no model 'nothing' in workspace '",
            "try: sanderling model register PATH --name nothing",
        ),
        ("serve norun.py", 2, "norun.py has no function 'run'", "add 'def run(raw_data): ...'"),
        ("device show nowhere", 2, "there is no device 'nowhere'", "try: sanderling device list"),
        ("device connection-string nowhere", 2, "there is no device 'nowhere'", "try: sanderling device list"),
        ("deploy --device nowhere --image a/b:1", 2, "there is no device 'nowhere'", "try: sanderling device list"),
        (
            "deploy --device press-4 --image nothing",
            2,
            "image 'nothing' is not in workspace '",
            "sanderling image list",
        ),
        (
            "deploy --device press-4 --manifest deployment.json",
            2,
            "/nothing:1 is not in this server's registry",
            "build",
        ),
    ],
)
def test_the_error_names_the_thing_and_the_way_out_and_nothing_is_changed(
    world: World, command: str, code: int, error: str, way_out: str
) -> None:
    before = world.state()
    done = world.cli(*command.split(), code=code)
    assert page(error) in done.stderr
    assert page(way_out) in done.stderr
    assert "Traceback" not in done.stderr
    assert world.state() == before


@pytest.mark.network
def test_an_unknown_package_fails_the_build_and_leaves_no_image(world: World) -> None:
    before = world.state()
    done = world.cli(*["image", "build", "--name", "digits", "--script", "score.py", "--env", "unknown.yml"], code=1)
    done = world.cli(*["deploy", "--device", "press-4", "--image", "digits"], code=2)
    assert page("is not built (failed); only a built image can be deployed") in done.stderr
    after = world.state()
    assert after[:1] + after[2:] == before[:1] + before[2:]


@pytest.mark.parametrize(
    ("command", "way_out"),
    [
        ("up --data d --host 127.0.0.1 --port 0 --mqtt-port", "choose another with --mqtt-port"),
        (
            "edge run --data d --connection-string-file press-4.secret --gateway-port",
            "choose another with --gateway-port",
        ),
        ("serve score.py --port", "try: another one: --port PORT"),
    ],
)
def test_a_port_in_use_is_named(world: World, command: str, way_out: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = world.cli(*command.split(), str(port), code=1)
    assert re.search(rf"\b{port}\b.*(in use|cannot be used)", done.stderr), done.stderr
    assert page(way_out) in done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(world.folder / "d", ignore_errors=True)  # the device keeps its certificates for the next start


def test_a_wrong_token_changes_nothing(world: World) -> None:
    before = world.state()
    (world.folder / "model.bin").write_bytes(b"model")
    done = world.cli("model", "register", "model.bin", "--name", "digits", code=1, SANDERLING_TOKEN="wrong")
    (world.folder / "model.bin").unlink()
    assert page("this token is not known here, or has ended") in done.stderr
    assert page("try: sanderling init, to sign in again") in done.stderr
    assert world.state() == before


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed: scripts/test installs it as root")
def test_a_wrong_password_at_the_registry_is_refused(world: World, tmp_path: Path) -> None:
    world.cli("registry", "credentials", "--enable")
    certificates = tmp_path / "certs"
    certificates.mkdir()
    shutil.copy(world.up.ca_file, certificates / "ca.crt")
    command: list[str | Path] = ["skopeo", "login", "--cert-dir", certificates, "--authfile", tmp_path / "auth.json"]
    command += ["--username", WORKSPACE, "--password-stdin", world.up.url.removeprefix("https://")]
    done = subprocess.run(command, input="wrong", capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert page("invalid username/password") in done.stderr
    assert not (tmp_path / "auth.json").exists() or "wrong" not in (tmp_path / "auth.json").read_text()


@pytest.mark.parametrize("spoil", [r"(?<=SharedAccessKey=)....", r"(?<=DeviceId=)press"], ids=["key", "device"])
def test_a_device_that_the_hub_refuses_says_so_and_waits(world: World, tmp_path: Path, spoil: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(re.sub(spoil, "AAAA", (world.folder / "press-4.secret").read_text()))
    name = re.search("DeviceId=([^;]+)", secret.read_text())
    before = world.state()
    assert name
    with device(world, tmp_path, secret) as log:
        until(lambda: f"refuses device '{name[1]}'" in log.read_text(), log)
    assert page("refuses device '") in log.read_text()
    assert page("was its key regenerated, or is it disabled?") in log.read_text()
    assert world.state() == before


def test_a_pull_that_is_cut_half_way_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    image = make_image(tar([file("data", random.Random(4).randbytes(BIG_BYTES))]))
    layer = image.manifest.layers[0].digest
    partial = tmp_path / "device" / "content" / "partial" / layer.hex
    whole = tmp_path / "device" / "content" / "sha256" / layer.hex
    credentials = push(world, image, "big")
    port, server = free_port(), world.up.url.rpartition(":")[2]
    with Relay([(port, int(server))]) as relay, device(world, tmp_path, world.folder / "press-4.secret") as log:
        through = Credentials(f"127.0.0.1:{port}", True, credentials.username, credentials.passwords)
        deployment = Deployment(f"127.0.0.1:{port}/{WORKSPACE}/big:1", "big", credentials=through)
        (tmp_path / "big.json").write_text(json.dumps(deployment.manifest))
        world.cli("deploy", "--device", DEVICE, "--manifest", tmp_path / "big.json", "--no-wait")
        until(lambda: size_of(partial) >= CUT_AFTER_BYTES, log, every_s=0.002)
        relay.cut()
        until(lambda: f"127.0.0.1:{port} cannot be reached" in described(world, "big"), log)
        assert not whole.exists()
        kept = size_of(partial)
        assert CUT_AFTER_BYTES <= kept < BIG_BYTES
        relay.restore()
        sizes: list[int] = []

        def is_whole() -> bool:
            sizes.append(size_of(partial))
            return whole.exists()

        until(is_whole, log, every_s=0.002)
    # It may be moved to its place between the look for it and the look at its size.
    assert all(size >= kept for size in sizes if size)


def described(world: World, module: str) -> str:
    found = [one["statusDescription"] for one in world.read("device", "modules", DEVICE) if one["name"] == module]
    return found[0] if found else ""


def push(world: World, image: MadeImage, name: str) -> Credentials:
    """Push with the admin user, as Docker does; return who that is."""
    told = world.read("registry", "credentials", "--enable")
    passwords = {one["name"]: one["value"] for one in told["passwords"]}
    root = f"{world.up.url}/v2/{WORKSPACE}/{name}"
    sign_in = httpx.BasicAuth(told["username"], passwords["password"])
    with httpx.Client(verify=tls_of(world), auth=sign_in, timeout=60) as http:
        for digest, content in image.blobs.items():
            begun = http.post(f"{root}/blobs/uploads/")
            where = httpx.URL(world.up.url).join(begun.headers["location"]).copy_merge_params({"digest": str(digest)})
            assert http.put(where, content=content).status_code == 201
        headers = {"Content-Type": image.manifest.media_type}
        assert http.put(f"{root}/manifests/1", content=image.manifest.raw, headers=headers).status_code == 201
    return Credentials(told["loginServer"], True, told["username"], passwords)


def tls_of(world: World) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(world.up.ca_file))


@contextmanager
def device(world: World, folder: Path, secret: Path) -> Iterator[Path]:
    """`sanderling edge run` with its state in *folder*/device; gives its log, and ends it by Ctrl-C's signal."""
    log = folder / "device.log"
    arguments = ("edge", "run", "--connection-string-file", secret, "--ca", world.up.ca_file)
    command = [*sanderling(*arguments), "--data", folder / "device", "--gateway-port", str(free_port())]
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        yield log
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def sanderling(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-P", "-m", "sanderling.cli", *arguments]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def until(is_so: Callable[[], object], log: Path, timeout_s: float = 30, every_s: float = 0.1) -> None:
    deadline = monotonic() + timeout_s
    while not is_so():
        assert monotonic() < deadline, log.read_text()
        sleep(every_s)
