"""The other side, for real: registry and hub over TLS in a thread, that can be cut off and come back."""

import asyncio
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import Connection, create_engine, event
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from tests.edge.worlds import MadeImage

from sanderling.blobs import FileBlobs
from sanderling.edge.certificates import GatewayCa
from sanderling.edge.layout import Layout
from sanderling.hub import ALL_RIGHTS, Hub, StoredEvent
from sanderling.registry import Registry, RegistryCredentials
from sanderling.server.registry_access import HubDevices


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cloud:
    """Start with `start`, cut with `stop`; what it holds stays."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = create_engine(f"sqlite:///{folder}/cloud.db")
        self._set_options()
        self.https_port, self.mqtt_port = free_port(), free_port()
        self.host = f"localhost:{self.https_port}"
        layout = Layout(folder / "tls")
        self._tls = GatewayCa(layout, datetime.datetime.now(datetime.UTC)).server_context(
            ("localhost", "127.0.0.1"), datetime.datetime.now(datetime.UTC)
        )
        self._certificate = (folder / "tls/tls/server.pem", folder / "tls/tls/server.key")
        self.ca = layout.gateway_ca
        devices = HubDevices(self.host)
        self.credentials = RegistryCredentials(self._database, lambda b: b, lambda b: b, devices=devices)
        admin = self.credentials.set_admin_enabled("demo", True)
        self.username, self.password = admin.username, admin.passwords[0]
        self.hub = Hub(self._database, None, {"owner": ALL_RIGHTS}.get)
        devices.ask(self.hub.pulls)
        self.registry = Registry(self._database, FileBlobs(folder / "blobs"), self.credentials, self.host)
        self.requests: list[tuple[str, str, str]] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def _set_options(self) -> None:
        @event.listens_for(self._database, "connect")
        def _options(connection: Any, _record: object) -> None:
            connection.isolation_level = None
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}").close()

        @event.listens_for(self._database, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def start(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        self._thread.start()
        assert started.wait(20)
        for _ in range(200):
            try:
                with socket.create_connection(("localhost", self.https_port), 1):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server does not listen")

    def stop(self) -> None:
        if self._thread is not None and self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(20)
            assert not self._thread.is_alive()
            self._thread = None

    def close(self) -> None:
        self.stop()
        self.hub.close()
        self._database.dispose()

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        config = uvicorn.Config(
            self._app(),
            host="localhost",
            port=self.https_port,
            ssl_certfile=str(self._certificate[0]),
            ssl_keyfile=str(self._certificate[1]),
            log_level="error",
            lifespan="off",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        async with self.hub.mqtt_server("127.0.0.1", self.mqtt_port, self._tls):
            serving = asyncio.create_task(server.serve())
            started.set()
            await self._stopping.wait()
            server.should_exit = True
            await serving

    def _app(self) -> Callable[..., Any]:
        async def well_known(_: Request) -> JSONResponse:
            about = {"product": "sanderling", "apiVersion": "v1", "mqttPort": self.mqtt_port}
            return JSONResponse(about | {"loginServer": self.host})

        routes = [Route("/.well-known/sanderling", well_known), *self.hub.rest_routes()]
        app = Starlette(routes=[*routes, Mount("/", self.registry.app())])

        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                headers = dict(scope["headers"])
                self.requests.append((scope["method"], scope["path"], headers.get(b"range", b"").decode()))
            await app(scope, receive, send)

        return recorded

    def client(self) -> httpx.Client:
        tls = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(base_url=f"https://{self.host}", verify=tls, headers={"Authorization": "Bearer owner"})

    def push(self, image: MadeImage, name: str = "demo/tiny", tag: str = "1") -> str:
        tls = ssl.create_default_context(cafile=str(self.ca))
        with httpx.Client(base_url=f"https://{self.host}", verify=tls, auth=(self.username, self.password)) as http:
            for digest, content in image.blobs.items():
                answer = http.post(f"/v2/{name}/blobs/uploads/", params={"digest": str(digest)}, content=content)
                if answer.status_code == 202:
                    answer = http.put(answer.headers["location"], params={"digest": str(digest)}, content=content)
                assert answer.status_code == 201, answer.text
            headers = {"Content-Type": image.manifest.media_type}
            answer = http.put(f"/v2/{name}/manifests/{tag}", content=image.manifest.raw, headers=headers)
            assert answer.status_code == 201, answer.text
        return f"{self.host}/{name}:{tag}"

    def create_device(self, name: str = "edge1") -> str:
        with self.client() as http:
            body = {"deviceId": name, "capabilities": {"iotEdge": True}}
            assert http.put(f"/devices/{name}?api-version=2021-04-12", json=body).status_code == 200
        return self.hub.device_connection_string(name, self.host)

    def create_module(self, module: str, device: str = "edge1") -> str:
        with self.client() as http:
            body = {"deviceId": device, "moduleId": module}
            assert http.put(f"/devices/{device}/modules/{module}?api-version=2021-04-12", json=body).status_code == 200
        return self.hub.device_connection_string(device, self.host, module)

    def deploy(
        self,
        modules: dict[str, Any],
        routes: dict[str, str] | None = None,
        *,
        device: str = "edge1",
        password: str | None = None,
        more: dict[str, Any] | None = None,
        has_credentials: bool = True,
    ) -> None:
        sign_in = {"address": self.host, "username": self.username, "password": password or self.password}
        credentials = {"r": sign_in} if has_credentials else {}
        content = {
            "$edgeAgent": {
                "properties.desired": {
                    "schemaVersion": "1.1",
                    "runtime": {"type": "docker", "settings": {"registryCredentials": credentials}},
                    "systemModules": {},
                    "modules": modules,
                }
            },
            "$edgeHub": {
                "properties.desired": {
                    "schemaVersion": "1.1",
                    "routes": routes or {},
                    "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
                }
            },
            **(more or {}),
        }
        with self.client() as http:
            url = f"/devices/{device}/applyConfigurationContent?api-version=2021-04-12"
            answer = http.post(url, json={"modulesContent": content})
            assert answer.status_code == 204, answer.text

    def reported(self, device: str = "edge1", module: str = "$edgeAgent") -> dict[str, Any]:
        with self.client() as http:
            answer = http.get(f"/twins/{device}/modules/{module.replace('$', '%24')}?api-version=2021-04-12")
            reported: dict[str, Any] = answer.json()["properties"]["reported"]
            return reported

    def events(self) -> list[StoredEvent]:
        return self.hub.events.read(0, limit=100_000)


def module(image: str, **more: Any) -> dict[str, Any]:
    options = more.pop("create_options", {})
    return {
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        "settings": {"image": image, "createOptions": options},
        **more,
    }


async def until(check: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """Wait until *check* returns something true, from a thread, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = await asyncio.to_thread(check)
        if found:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"it did not come about that {what}")
