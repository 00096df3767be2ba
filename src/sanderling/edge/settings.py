"""What the edge runtime is told from outside."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sanderling.errors import Invalid
from sanderling.iot import ConnectionString

EngineName = Literal["auto", "docker", "bubblewrap"]


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """How to run a device. Made by the command line, or by a program that runs a device itself.

    - `connection_string`: the edge device's own (`HostName=...;DeviceId=...;SharedAccessKey=...`);
    - `data`: the folder of all state, see `layout.py`;
    - `ca`: a PEM file that the hub's and the registry's certificates are checked against, besides the system's;
    - `gateway_host`: the address that the edge hub listens on; None takes 127.0.0.1 with bubblewrap and
      all addresses with Docker, whose containers come from their own network;
    - `gateway_name`: what modules call the gateway; None takes `localhost`, or the machine's name with Docker;
    - `plain_http_registries`: registries (`host:port`) to speak to without TLS;
    - `stop_modules`: whether modules end with the runtime; with bubblewrap they always do, in Docker they go on;
    - `max_store_bytes`: how much the edge hub keeps on disk unless the manifest says otherwise.
    """

    connection_string: str = field(repr=False)
    data: Path
    ca: Path | None = None
    engine: EngineName = "auto"
    gateway_port: int = 8883
    gateway_host: str | None = None
    gateway_name: str | None = None
    plain_http_registries: tuple[str, ...] = ()
    stop_modules: bool = False
    max_store_bytes: int = 1024**3

    def connection(self) -> ConnectionString:
        """Return the parsed connection string; raise `Invalid` when it is not a device's."""
        parsed = ConnectionString.parse(self.connection_string)
        if parsed.device_id is None or parsed.module_id is not None or not parsed.shared_access_key:
            raise Invalid(
                "the connection string is not that of an edge device: HostName, DeviceId and SharedAccessKey "
                "are expected; "
                "`sanderling device connection-string DEVICE` shows it"
            )
        return parsed
