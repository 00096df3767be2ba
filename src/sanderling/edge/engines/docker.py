"""Runs modules with Docker, or what speaks its API.

Containers are named as their modules and labelled as IoT Edge labels them, with
ours beside. Docker restarts nothing and pulls nothing: images are loaded from
our content store under a name of our own. Containers outlive the runtime.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sanderling.edge.engines.docker_api import DockerApi
from sanderling.edge.engines.docker_archive import docker_archive
from sanderling.edge.engines.port import Container, ContainerSpec, HeldImage, State
from sanderling.errors import Conflict, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.oci import Digest, ImageConfig, Reference

_OURS = "io.sanderling.edge"
_REPOSITORY = "sanderling-edge"
_OWNER = {"net.azure-devices.edge.owner": "Microsoft.Azure.Devices.Edge.Agent"}
_LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}
_STATES = {"created": State.CREATED, "exited": State.EXITED, "dead": State.EXITED}

Json = dict[str, Any]


class DockerEngine:
    """A `ContainerEngine` over the Engine API, for the modules of one device."""

    name = "docker"

    def __init__(self, api: DockerApi, device_id: str, gateway_name: str) -> None:
        """In containers *gateway_name* leads to this host. *api* is connected."""
        self._api = api
        self._device_id = device_id
        self._gateway_name = gateway_name

    async def load(self, image: HeldImage) -> None:
        """Load *image* unless Docker has it; Docker verifies each layer's diffID."""
        if await self.has(image):
            return
        local = _local_name(image.config)
        reference = Reference.parse(image.reference)
        tags = [local] if reference.digest is not None else [local, str(reference)]
        answer = await self._api.upload("/images/load", docker_archive(image, tags), quiet="1")
        for line in answer.splitlines():
            if b"errorDetail" in line:
                raise Invalid(f"image {image.reference} is refused by Docker: {_error_in(line)}")

    async def has(self, image: HeldImage) -> bool:
        """Say whether Docker has the image under our name."""
        try:
            await self._api.get(f"/images/{_local_name(image.config)}/json")
        except NotFound:
            return False
        return True

    async def containers(self) -> dict[str, Container]:
        """Return this device's containers."""
        filters = json.dumps({"label": [f"{_OURS}.device={self._device_id}"]})
        found = {}
        for row in await self._api.get("/containers/json", all="1", filters=filters):
            try:
                document = await self._api.get(f"/containers/{row['Id']}/json")
            except NotFound:
                continue
            container = _container(document)
            found[container.name] = container
        return found

    async def create(self, spec: ContainerSpec) -> None:
        """Create the container with createOptions as they are, and what a module needs."""
        body = self._body(spec)
        try:
            await self._api.post("/containers/create", body, name=_container_name(spec.name))
        except Conflict as e:
            raise Conflict(
                f"module {spec.name!r}: Docker has a container of this name that is not this device's; remove it "
                f"(`docker rm {_container_name(spec.name)}`)"
            ) from e
        except (Invalid, NotFound) as e:
            raise Invalid(f"module {spec.name!r}: {e.message}") from e

    def _body(self, spec: ContainerSpec) -> Json:
        options = dict(spec.create_options)
        host = dict(_object(options, "HostConfig"))
        labels = dict(_object(options, "Labels")) | _OWNER
        env = options.get("Env") or []
        if not isinstance(env, list):
            raise Invalid(f"module {spec.name!r}: createOptions: Env is not a list of texts")
        labels |= {
            "net.azure-devices.edge.original-image": spec.image.reference,
            "net.azure-devices.edge.create-options": json.dumps(spec.create_options),
            f"{_OURS}.device": self._device_id,
            f"{_OURS}.module": spec.name,
            f"{_OURS}.fingerprint": spec.fingerprint,
            f"{_OURS}.image": spec.image.reference,
            f"{_OURS}.manifest": str(spec.image.digest),
        }
        host["Binds"] = [*(host.get("Binds") or []), f"{spec.workload_folder}:/run/iotedge"]
        host["ExtraHosts"] = [*(host.get("ExtraHosts") or []), f"{self._gateway_name}:host-gateway"]
        host["RestartPolicy"] = {"Name": "no"}  # restarting is the runtime's
        host.setdefault("LogConfig", _LOG_CONFIG)
        return options | {
            "Image": _local_name(spec.image.config),
            "Env": [*env, *(f"{name}={value}" for name, value in spec.environment.items())],
            "Labels": labels,
            "HostConfig": host,
        }

    async def start(self, name: str) -> None:
        """Start the container."""
        try:
            await self._api.post(f"/containers/{await self._id(name)}/start", timeout_s=120)
        except Invalid as e:
            raise Invalid(f"module {name!r}: {e.message}") from e
        except Unavailable as e:
            raise Unavailable(f"module {name!r}: {e.message}") from e

    async def stop(self, name: str, timeout_s: float = 10.0) -> None:
        """Stop the container; Docker kills it after *timeout_s*."""
        try:
            identifier = await self._id(name)
            await self._api.post(f"/containers/{identifier}/stop", timeout_s=timeout_s + 60, t=str(int(timeout_s)))
        except NotFound:
            return

    async def remove(self, name: str) -> None:
        """Stop and delete the container; its volumes stay."""
        await self.stop(name)
        try:
            await self._api.delete(f"/containers/{await self._id(name)}", force="1")
        except NotFound:
            return

    async def logs(self, name: str, tail_bytes: int = 65536) -> bytes:
        """Return the end of what the container wrote."""
        identifier = await self._id(name)
        lines = str(max(10, tail_bytes // 80))
        raw = await self._api.get_bytes(f"/containers/{identifier}/logs", stdout="1", stderr="1", tail=lines)
        return _without_frames(raw)[-tail_bytes:]

    async def discard(self, keep: set[Digest]) -> None:
        """Delete images that we loaded and nobody wants; those in use stay."""
        wanted = {digest.hex for digest in keep}
        filters = json.dumps({"reference": [_REPOSITORY]})
        for row in await self._api.get("/images/json", filters=filters):
            names = row.get("RepoTags") or []
            ours = [name for name in names if name.startswith(f"{_REPOSITORY}:")]
            if ours and not any(name.rpartition(":")[2] in wanted for name in ours):
                for name in names:
                    try:
                        await self._api.delete(f"/images/{quote(name, safe='/:')}")
                    except (NotFound, Conflict):
                        continue

    async def close(self) -> None:
        """Close the connections; containers go on."""
        await self._api.close()

    async def _id(self, name: str) -> str:
        labels = [f"{_OURS}.device={self._device_id}", f"{_OURS}.module={name}"]
        rows = await self._api.get("/containers/json", all="1", filters=json.dumps({"label": labels}))
        if not rows:
            raise NotFound(f"module {name!r} has no container")
        return str(rows[0]["Id"])


async def find_docker(device_id: str, gateway_name: str) -> DockerEngine:
    """Return the engine of the daemon that answers; raise `Unavailable` or `Invalid` when none does."""
    api = DockerApi()
    try:
        await api.connect()
    except SanderlingError:
        await api.close()
        raise
    return DockerEngine(api, device_id, gateway_name)


def _container_name(module: str) -> str:
    return module if len(module) > 1 else f"module-{module}"  # Docker wants two characters


def _local_name(config: ImageConfig) -> str:
    return f"{_REPOSITORY}:{config.digest.hex}"


def _object(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = options.get(name) or {}
    if not isinstance(value, dict):
        raise Invalid(f"createOptions: {name} is not an object")
    return value


def _container(document: Json) -> Container:
    labels, state = document["Config"]["Labels"], document["State"]
    kind = _STATES.get(state.get("Status", ""), State.RUNNING)
    return Container(
        name=labels[f"{_OURS}.module"],
        state=kind,
        fingerprint=labels.get(f"{_OURS}.fingerprint", ""),
        image=labels.get(f"{_OURS}.image", ""),
        image_digest=labels.get(f"{_OURS}.manifest", ""),
        exit_code=state.get("ExitCode") if kind is State.EXITED else None,
        started_at=_time(state.get("StartedAt")),
        exited_at=_time(state.get("FinishedAt")) if kind is State.EXITED else None,
    )


def _time(text: object) -> float | None:
    # RFC 3339 with nanoseconds; year 1 stands for never.
    if not isinstance(text, str) or text.startswith("0001"):
        return None
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
    except ValueError:
        return None


def _without_frames(raw: bytes) -> bytes:
    # Engine API, "Attach to a container": 8 bytes before each piece, unless the container has a terminal.
    out, at = bytearray(), 0
    while at + 8 <= len(raw):
        if raw[at] > 2 or raw[at + 1 : at + 4] != b"\0\0\0":
            return raw
        size = int.from_bytes(raw[at + 4 : at + 8], "big")
        out += raw[at + 8 : at + 8 + size]
        at += 8 + size
    return bytes(out)


def _error_in(line: bytes) -> str:
    try:
        return str(json.loads(line)["errorDetail"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return "it does not say why"
