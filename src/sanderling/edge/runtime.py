"""The composition of a device: one process, one data folder, one task group.

hub ◀──$edgeAgent link──▶ desired state ──▶ reconciler ──▶ engine ──▶ modules
hub ◀──$edgeHub link────▶ edge hub ◀──────────── MQTT over TLS ─────────┘ │
                          identities ◀── workload API (unix sockets) ─────┘
"""

import asyncio
import contextlib
import datetime
import logging
import platform
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sanderling.edge.certificates import GatewayCa
from sanderling.edge.content import ContentStore
from sanderling.edge.desired import DesiredState
from sanderling.edge.discovery import Discovery
from sanderling.edge.engines import ContainerEngine
from sanderling.edge.engines.choice import Gateway, choose_engine
from sanderling.edge.gateway.hub import EdgeHub
from sanderling.edge.identities import Identities
from sanderling.edge.layout import Layout
from sanderling.edge.link import HubLink
from sanderling.edge.own_registry import OwnRegistry
from sanderling.edge.pull import Puller
from sanderling.edge.reconcile import Reconciler
from sanderling.edge.report import agent_report
from sanderling.edge.settings import EdgeSettings
from sanderling.edge.workload import WorkloadApi
from sanderling.errors import Invalid, SanderlingError
from sanderling.iot import sas
from sanderling.iot.identity import EDGE_AGENT
from sanderling.oci import Platform

_log = logging.getLogger(__name__)
_SYNC_EVERY_S = 3600.0
_VERSION = "0.1.0"
_WORKLOAD_URI = "unix:///run/iotedge/workload.sock"

Json = dict[str, Any]


async def run(settings: EdgeSettings, *, ready: Callable[["Device"], None] = lambda _: None) -> None:
    """Run the device until cancelled, SIGTERM or SIGINT; then stop what cannot outlive us.

    *ready* is called when the edge hub listens. Raises `Invalid` for settings
    that cannot be, `Conflict` when another runtime has the data folder,
    `Unavailable` when no engine works or the gateway's port is taken.
    """
    connection = settings.connection()
    sas.sign(connection.shared_access_key or "", b"")  # a key that is not base64 is found now
    layout = Layout(settings.data.absolute())
    with layout.locked():
        device = Device(settings, layout)
        stopping = asyncio.Event()
        with _signals(stopping):
            async with device.running():
                ready(device)
                await stopping.wait()
                _log.info("stopping")


async def _stop_all(engine: ContainerEngine) -> None:
    """Stop every module, all at once. One that cannot be stopped is logged; the runtime ends all the same."""

    async def stop(name: str) -> None:
        try:
            await engine.stop(name)
        except SanderlingError as e:
            _log.warning("module %r is not stopped: %s", name, e)

    try:
        names = list(await engine.containers())
    except SanderlingError as e:
        _log.warning("the modules are not stopped: %s", e)
        return
    await asyncio.gather(*(stop(name) for name in names))


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Any:
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread may; elsewhere (a test, an embedding program) cancelling is how to stop.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, stopping.set)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


class Device:
    """All parts of a running device. `gateway_port` is where the edge hub listens."""

    def __init__(self, settings: EdgeSettings, layout: Layout) -> None:
        self._settings = settings
        self._layout = layout
        self._connection = settings.connection()
        self._tls = client_context(settings.ca)
        self.identities = Identities(layout, self._connection, self._tls)
        self._discovery = Discovery(layout, self._connection, self._tls)
        self._desired = DesiredState(layout.folder("desired") / "agent.json")
        self._ca = GatewayCa(layout, datetime.datetime.now(datetime.UTC))
        self.gateway_port = settings.gateway_port
        self._gateway_name = ""
        self._engine: ContainerEngine | None = None

    @property
    def gateway_ca(self) -> Path:
        """The CA file that clients of the gateway trust."""
        return self._layout.gateway_ca

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all parts; at the end stop them in order: loop, modules, edge hub, links."""
        settings = self._settings
        content = ContentStore(self._layout.root)
        waker = _Waker()
        engine = await choose_engine(
            settings.engine, self._layout, self.identities.device_id, Gateway(self._hosts(), self._docker_name()), waker
        )
        self._engine = engine
        is_docker = engine.name == "docker"
        host = settings.gateway_host or ("0.0.0.0" if is_docker else "127.0.0.1")
        self._gateway_name = settings.gateway_name or (self._docker_name() if is_docker else _own_name(host))
        names = self._names(host)
        tls = self._ca.server_context(names, datetime.datetime.now(datetime.UTC))
        hub = EdgeHub(self._layout, self.identities, settings.max_store_bytes, self._link)
        workload = WorkloadApi(self._layout, self._ca, self._trust_bundle, self.identities.find, names)
        puller = Puller(
            content,
            host_platform(),
            self._tls,
            plain_http=settings.plain_http_registries,
            own_registry=OwnRegistry(self._connection, self._discovery),
        )

        def take_desired(desired: Json) -> None:
            self._desired.update(desired)
            waker()

        link = self._link(EDGE_AGENT, on_desired=take_desired)

        def report(modules: Mapping[str, Json], status: Json) -> None:
            link.report(agent_report(modules, self._desired.version, status, _platform(), engine.name, _VERSION))

        surroundings = _Surroundings(self._connection.host_name, self.identities, workload, self)
        reconciler = Reconciler(self._desired, engine, content, puller, surroundings, report)
        waker.target = reconciler.wake
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(engine.close)
            await stack.enter_async_context(workload.running())
            self.gateway_port = await stack.enter_async_context(hub.running(host, settings.gateway_port, tls))
            _log.info("the edge hub listens on %s:%d as %s", host, self.gateway_port, self._gateway_name)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in (link.run(), self._keep_identities(), reconciler.run())]
                try:
                    yield
                finally:
                    for task in tasks:
                        task.cancel()
            # Modules stop while the edge hub still takes their last messages.
            if settings.stop_modules:
                await _stop_all(engine)
            await engine.close()

    def _link(self, module_id: str, **hooks: Any) -> HubLink:
        return HubLink(module_id, self._connection, self.identities, self._discovery, self._tls, **hooks)

    async def _keep_identities(self) -> None:
        """Bring the identities in step at start and every hour."""
        wait_s = 1.0
        while True:
            try:
                await self.identities.sync()
                wait_s = _SYNC_EVERY_S
            except SanderlingError as e:
                _log.info("the identities of this device are as last known: %s", e)
                wait_s = min(wait_s * 2, 60.0)
            await asyncio.sleep(wait_s)

    def gateway_variables(self) -> dict[str, str]:
        """Return what modules are told of the gateway."""
        return {"IOTEDGE_GATEWAYHOSTNAME": self._gateway_name, "SANDERLING_GATEWAY_PORT": str(self.gateway_port)}

    def _trust_bundle(self) -> str:
        return self._ca.pem

    def _hosts(self) -> str:
        name = self._settings.gateway_name
        address = self._settings.gateway_host or "127.0.0.1"
        return f"{'127.0.0.1' if address == '0.0.0.0' else address}\t{name}\n" if name else ""

    def _docker_name(self) -> str:
        return self._settings.gateway_name or socket.gethostname().lower()

    def _names(self, host: str) -> tuple[str, ...]:
        names = ["localhost", "127.0.0.1", socket.gethostname(), self._gateway_name]
        if host not in ("0.0.0.0", "::"):
            names.append(host)
        return tuple(dict.fromkeys(name for name in names if name))


class _Waker:
    """What the engine calls when a module exits; the loop is made after the engine."""

    def __init__(self) -> None:
        self.target: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        self.target()


class _Surroundings:
    """A module's identity, variables and workload socket."""

    def __init__(self, hub_host: str, identities: Identities, workload: WorkloadApi, device: Device) -> None:
        self._hub_host = hub_host
        self._identities = identities
        self._workload = workload
        self._device = device

    async def prepare(self, module_id: str) -> tuple[Mapping[str, str], Path]:
        identity = await self._identities.ensure(module_id)
        folder = await self._workload.ensure(module_id)
        variables = {
            "IOTEDGE_IOTHUBHOSTNAME": self._hub_host,
            "IOTEDGE_DEVICEID": self._identities.device_id,
            "IOTEDGE_MODULEID": module_id,
            "IOTEDGE_MODULEGENERATIONID": identity.generation_id,
            "IOTEDGE_WORKLOADURI": _WORKLOAD_URI,
            "IOTEDGE_APIVERSION": "2020-07-07",
            "IOTEDGE_AUTHSCHEME": "sasToken",
        }
        return variables | self._device.gateway_variables(), folder

    async def forget(self, module_id: str) -> None:
        await self._workload.remove(module_id)


def client_context(ca: Path | None) -> ssl.SSLContext:
    """Return TLS for the hub and registries, trusting the system and *ca*; raise `Invalid` for a bad file."""
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except (OSError, ssl.SSLError) as e:
            raise Invalid(f"the CA file {ca} cannot be used: {e.strerror or e}") from e
    return context


def host_platform() -> Platform:
    """Return what images must be built for to run here."""
    machine = platform.machine().lower()
    variant = {"armv7l": "/v7", "armv6l": "/v6"}.get(machine, "")
    return Platform.parse(f"linux/{'arm' if variant else machine}{variant}")


def _platform() -> Json:
    host = host_platform()
    return {"os": host.os, "architecture": host.architecture, "version": platform.release()}


def _own_name(host: str) -> str:
    return "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
