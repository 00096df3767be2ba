"""A real server process with its portal, and browsers' sessions on it."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn

from sanderling import portal
from sanderling.iot import sas
from sanderling.mqtt import Connack, Connect, Decoder, Disconnect, Packet, Puback, Publish, Suback, Subscribe, encode
from sanderling.oci import Descriptor, Digest, Manifest, media_types
from sanderling.sdk import BuildFailed, Deployment, Device, Image, Model, Workspace
from sanderling.sdk.client import Client

START_S = 30
FROM_HERE = {"Sec-Fetch-Site": "same-origin"}
P = TypeVar("P")
LinkTo = Callable[[Device, str], AbstractContextManager["Link"]]
HOSTILE = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Site:
    """A server's address, its data folder, and a client with all rights."""

    url: str
    data: Path
    owner: Client

    @property
    def ca(self) -> Path:
        return self.data / "tls" / "ca.pem"

    def new_code(self) -> str:
        answer = self.owner.call("POST", "/api/v1/sign-in-links")
        return str(answer["url"]).partition("#")[2]

    def visitor(self) -> httpx.Client:
        """A browser that has not signed in."""
        context = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(base_url=self.url, verify=context, timeout=30, trust_env=False)


class NothingThere(BaseHTTPRequestHandler):
    """A proxy to an internet without content."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's
    do_CONNECT = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def empty_internet() -> Iterator[dict[str, str]]:
    """Yield the environment in which a build fails at its first download, whatever this machine could reach."""
    with ThreadingHTTPServer(("127.0.0.1", 0), NothingThere) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{proxy.server_port}"
        yield {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": "localhost,127.0.0.1"}
        proxy.shutdown()
        thread.join(START_S)


@contextmanager
def running_server(folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield the URL and the data folder of a server process."""
    data = folder / "data"
    command = [sys.executable, "-m", "sanderling.server", "--data", str(data), "--host", "127.0.0.1"]
    command += ["--port", "0", "--mqtt-port", "0"]
    with (folder / "stderr").open("w") as stderr:
        env = os.environ | {"SANDERLING_CONFIG_DIR": str(folder / "config")} | environment
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (folder / "stderr").read_text()
        yield json.loads(line)["url"], data
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)
        process.stdout.close()


@contextmanager
def running_portal(client_for: Callable[[str], Client], tls: Path) -> Iterator[str]:
    """Yield the URL of a portal that this process serves, with the server's certificate."""
    config = uvicorn.Config(
        portal.app(client_for),
        ssl_certfile=str(tls / "server.pem"),
        ssl_keyfile=str(tls / "server.key"),
        lifespan="off",
        log_config=None,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        deadline = time.monotonic() + START_S
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield f"https://localhost:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START_S)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with its portal, which holds nothing but what tests put there."""
    with empty_internet() as proxies, running_server(tmp_path_factory.mktemp("server"), proxies) as (url, data):
        token = (data / "secrets" / "owner-token").read_text().strip()
        with Client(url, token=token, ca_file=data / "tls" / "ca.pem") as owner:
            yield Site(url, data, owner)


@pytest.fixture(scope="session")
def demo(site: Site) -> Workspace:
    return Workspace.create("demo", client=site.owner, exist_ok=True)


@pytest.fixture(scope="session")
def model(demo: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model with hostile words in all that people may write."""
    folder = tmp_path_factory.mktemp("model") / "digits"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"not a pickle, but bytes" * 100)
    (folder / "<b>&.txt").write_text("labels")
    return Model.register(demo, folder, "digits", tags={HOSTILE: HOSTILE}, description=HOSTILE)


@pytest.fixture(scope="session")
def failed_image(demo: Workspace, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """An image whose build failed, because nothing could be fetched for it."""
    script = tmp_path_factory.mktemp("image") / "score.py"
    script.write_text("def init():\n    pass\n\n\ndef run(raw_data):\n    return raw_data\n")
    image = Image.create(demo, "digits", script, models=[model], tags={"line": HOSTILE}, description=HOSTILE)
    with pytest.raises(BuildFailed):
        image.wait(timeout_s=60)
    return image.refresh()


@pytest.fixture(scope="session")
def pushed(site: Site, demo: Workspace) -> str:
    """An image that a registry client pushed; the short form of its digest."""
    keys = demo.registry.enable_admin()
    with site.visitor() as client:
        client.auth = httpx.BasicAuth(keys.username, keys.passwords["password"])
        blobs = []
        for content in (b"{}", b"a layer"):
            digest = Digest.of(content)
            begun = client.post("/v2/demo/digits/blobs/uploads/")
            answer = client.put(begun.headers["location"], params={"digest": str(digest)}, content=content)
            assert answer.status_code == 201, answer.text
            blobs.append((digest, len(content)))
        (config, config_size), (layer, layer_size) = blobs
        manifest = Manifest.build(
            Descriptor(media_types.OCI_CONFIG, config, config_size),
            [Descriptor(media_types.OCI_LAYER, layer, layer_size)],
        )
        answer = client.put(
            "/v2/demo/digits/manifests/latest",
            content=manifest.raw,
            headers={"Content-Type": manifest.media_type},
        )
        assert answer.status_code == 201, answer.text
    return str(manifest.digest)[:19]


class Link:
    """A device's connection over MQTT, as one of its modules."""

    def __init__(self, site: Site, device: Device, module: str) -> None:
        key = device.create_module(module, exist_ok=True)
        resource = f"localhost/devices/{device.device_id}/modules/{module}"
        token = sas.build(resource, key, int(time.time()) + 600)
        port = site.owner.call("GET", "/.well-known/sanderling")["mqttPort"]
        context = ssl.create_default_context(cafile=str(site.ca))
        self._socket = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), timeout=30), server_hostname="localhost"
        )
        self._decoder, self._packets = Decoder(), list[Packet]()
        self.device = device
        name = f"{device.device_id}/{module}"
        username = f"localhost/{name}/?api-version=2021-04-12"
        self._put(Connect(name, username=username, password=token.encode()))
        assert self._take(Connack).return_code == 0

    def report(self, properties: dict[str, Any]) -> None:
        """Patch the module's reported properties, and wait until the hub has them."""
        self._put(Subscribe(1, (("$iothub/twin/res/#", 0),)))
        self._take(Suback)
        self._put(Publish("$iothub/twin/PATCH/properties/reported/?$rid=1", json.dumps(properties).encode()))
        assert self._take(Publish).topic.startswith("$iothub/twin/res/204/")

    def send(self, module: str, output: str, body: bytes) -> None:
        """Send a message of one of the device's modules, and wait until the hub has stored it."""
        bag = f"%24.on={output}&AzureMLResponse=OK"
        topic = f"devices/{self.device.device_id}/modules/{module}/messages/events/{bag}"
        self._put(Publish(topic, body, qos=1, packet_id=1))
        self._take(Puback)

    def close(self) -> None:
        self._put(Disconnect())
        self._socket.close()

    def _put(self, packet: Packet) -> None:
        self._socket.sendall(encode(packet))

    def _take(self, kind: type[P]) -> P:
        while not self._packets:
            data = self._socket.recv(65_536)
            assert data, "the hub closed the connection"
            self._packets += self._decoder.feed(data)
        packet = self._packets.pop(0)
        assert isinstance(packet, kind), packet
        return packet


@pytest.fixture(scope="session")
def link_to(site: Site) -> LinkTo:
    return lambda device, module: closing(Link(site, device, module))


@pytest.fixture(scope="session")
def device(demo: Workspace, link_to: LinkTo) -> Device:
    """An edge device with a deployment, which it has reported on, and with messages."""
    device = Device.create(demo, "press-4")
    credentials = {"username": "demo", "password": "the-registrys-password", "address": "localhost:8443"}
    modules = {
        name: {
            "version": "1.0",
            "type": "docker",
            "status": "running",
            "restartPolicy": "always",
            "settings": {"image": f"registry.example/{name}:1", "createOptions": "{}"},
        }
        for name in ("digits", "sensor", "late")
    }
    manifest = Deployment("registry.example/digits:1").manifest
    desired = manifest["modulesContent"]["$edgeAgent"]["properties.desired"]
    desired["modules"] = modules
    desired["runtime"]["settings"]["registryCredentials"] = {"demo": credentials}
    device.apply(manifest)
    with link_to(device, "$edgeAgent") as link:
        link.report(
            {
                "lastDesiredVersion": 1,
                "lastDesiredStatus": {"code": 400, "description": "module 'late': its image was not found"},
                "modules": {
                    "digits": reported("running", 0, "running since noon", 0),
                    "sensor": reported("backoff", 3, "ended with code 3", 8),
                },
            }
        )
    with link_to(device, "$edgeHub") as link:
        link.send("digits", "amlOutput", json.dumps({"label": HOSTILE}).encode())
        for number in range(12):
            link.send("digits", "amlOutput", json.dumps({"prediction": [number], "pixels": [0.0] * 16}).encode())
        link.send("digits", "amlOutput", b'"the last one"')
    return device


def reported(status: str, exit_code: int, description: str, restarts: int) -> dict[str, Any]:
    return {
        "runtimeStatus": status,
        "exitCode": exit_code,
        "statusDescription": description,
        "restartCount": restarts,
        "lastStartTimeUtc": "2026-03-01T12:00:00Z",
        "settings": {"image": "localhost:8443/demo/digits:1"},
    }


@pytest.fixture
def visitor(site: Site) -> Iterator[httpx.Client]:
    with site.visitor() as client:
        yield client


@pytest.fixture
def browser(visitor: httpx.Client, site: Site) -> httpx.Client:
    """A session that has signed in."""
    answer = visitor.post("/sign-in", data={"code": site.new_code()}, headers=FROM_HERE)
    assert answer.status_code == 303, answer.text
    return visitor


@pytest.fixture
def portal_over(site: Site) -> Iterator[Callable[[Callable[[str], Client]], httpx.Client]]:
    """Makes a portal over other clients, and gives a browser on it."""
    with ExitStack() as stack:

        def make(client_for: Callable[[str], Client]) -> httpx.Client:
            url = stack.enter_context(running_portal(client_for, site.data / "tls"))
            return stack.enter_context(Site(url, site.data, site.owner).visitor())

        yield make
