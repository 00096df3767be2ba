"""Says when a module that runs also answers: its `init()` may take a while.

- An image says with the label `io.sanderling.ready-path` where it tells; the port is the one that it exposes.
- It is asked on the host's port where the module is published. What is not published is not asked.
- It is asked until the first 200, and not again until it is started anew: this is no health check.
"""

import asyncio
from collections.abc import Mapping

import httpx

from sanderling.edge.engines.create_options import CreateOptions
from sanderling.edge.engines.port import Container, HeldImage
from sanderling.errors import Invalid
from sanderling.iot import ModuleSpec

READY_PATH_LABEL = "io.sanderling.ready-path"
_TIMEOUT_S = 1.0


class Readiness:
    """Remembers which starts have answered."""

    def __init__(self) -> None:
        self._answered: dict[str, float] = {}  # module -> when it was started

    async def look(
        self, modules: Mapping[str, ModuleSpec], actual: Mapping[str, Container], held: Mapping[str, HeldImage]
    ) -> dict[str, bool]:
        """Return for each module that runs and can be asked whether it has answered since its start."""
        addresses = {}
        for name, container in actual.items():
            spec = modules.get(name)
            if spec is not None and container.is_up and spec.image in held:
                address = ready_address(spec, held[spec.image])
                if address is not None:
                    addresses[name] = address
        waiting = [name for name in addresses if self._answered.get(name) != actual[name].started_at]
        answers = await asyncio.gather(*(_answers(addresses[name]) for name in waiting))
        for name, has_answered in zip(waiting, answers, strict=True):
            started_at = actual[name].started_at
            if has_answered and started_at is not None:
                self._answered[name] = started_at
        return {name: self._answered.get(name) == actual[name].started_at for name in addresses}


def ready_address(spec: ModuleSpec, image: HeldImage) -> str | None:
    """Return the URL on this host at which the module says that it is ready; None when there is none."""
    path = image.config.labels.get(READY_PATH_LABEL, "")
    exposed = {port.removesuffix("/tcp") for port in image.config.exposed_ports if not port.endswith(("/udp", "/sctp"))}
    try:
        ports = CreateOptions.parse(spec.create_options).ports
    except Invalid:
        return None
    if not path.startswith("/") or len(exposed) != 1:
        return None
    published = [port for port in ports if port.protocol == "tcp" and str(port.container_port) in exposed]
    if not published or not published[0].host_port:
        return None
    host = published[0].host_address
    host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    return f"http://{f'[{host}]' if ':' in host else host}:{published[0].host_port}{path}"


async def _answers(address: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            return (await client.get(address)).status_code == httpx.codes.OK
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
