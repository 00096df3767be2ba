"""What the server is told at its start, and the addresses that follow from it.

Two addresses are kept apart: where the server listens (`host`, `port`), and
where clients and devices reach it (`public_url`). They differ behind a relay,
a NAT or a load balancer. Login server, connection strings, the well-known
document and sign-in links always use the public one.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from sanderling.blobs import StorePlace
from sanderling.errors import Invalid

DEFAULT_PORT = 8443
DEFAULT_MQTT_PORT = 8883

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_EVERY_ADDRESS = {"", "0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What `sanderling up` decides; ports of 0 are chosen by the system at start.

    host: the address to listen on; None listens on all of them.
    host_names: further names or addresses for the certificate; the first one is the
        name that clients are told, unless `public_url` says another.
    public_url: `https://name[:port]` as clients and devices see it.
    build_workers: how many images are built at once.
    build_time_limit_s, build_memory_bytes: bounds of one build; no bound of memory when None.
    gate_time_limit_s, gate_memory_bytes: bounds of what a script does before its image is published; None takes
        three quarters of the machine's memory.
    is_gate_required: whether builds fail where no sandbox can be made, in place of a warning.
    debian_mirror, debian_security_mirror: where base images come from; None takes the host's own sources.
    max_blob_bytes: the largest single file of a model, or layer of an image.
    collect_every_s: how often the registry's retention rules and garbage collection run by themselves.
    blobs: where the registry keeps layers; None is the data folder.
    """

    data: Path
    host: str | None = None
    port: int = DEFAULT_PORT
    mqtt_port: int = DEFAULT_MQTT_PORT
    public_url: str | None = None
    public_mqtt_port: int | None = None
    host_names: tuple[str, ...] = ()
    build_workers: int = 1
    build_time_limit_s: float = 3600.0
    build_memory_bytes: int | None = None
    gate_time_limit_s: float = 300.0
    gate_memory_bytes: int | None = None
    is_gate_required: bool = False
    max_blob_bytes: int = 64 * 1024**3
    debian_mirror: str | None = None
    debian_security_mirror: str | None = None
    collect_every_s: float = 24 * 3600.0
    blobs: StorePlace | None = None

    def __post_init__(self) -> None:
        for what, port in (
            ("port", self.port),
            ("mqtt port", self.mqtt_port),
            ("public mqtt port", self.public_mqtt_port),
        ):
            if port is not None and not 0 <= port <= 65535:
                raise Invalid(f"{what} {port}: a port is a number from 0 to 65535")
        if self.port and self.port == self.mqtt_port and self.public_url is None:
            raise Invalid(f"port {self.port} is given for both HTTPS and MQTT; choose another with --mqtt-port")
        for name in self.host_names:
            if not _HOST_NAME.fullmatch(name) and not _is_address(name):
                raise Invalid(f"host name {name!r}: give a name or an address, without https:// and port")
        if self.public_url is not None:
            _parse_public_url(self.public_url)

    def with_ports(self, port: int, mqtt_port: int) -> "ServerSettings":
        """Return these settings with the ports that were really bound."""
        return replace(self, port=port, mqtt_port=mqtt_port)

    @property
    def public_host(self) -> str:
        """The name that clients and devices use for this server, without port."""
        if self.public_url is not None:
            return _parse_public_url(self.public_url)[0]
        if self.host_names:
            return self.host_names[0]
        return "localhost" if self.host is None or self.host in _EVERY_ADDRESS else self.host

    @property
    def login_server(self) -> str:
        """`host[:port]` of the registry and of HostName in connection strings."""
        port = self.port if self.public_url is None else _parse_public_url(self.public_url)[1]
        host = f"[{self.public_host}]" if ":" in self.public_host else self.public_host
        return host if port == 443 else f"{host}:{port}"

    @property
    def url(self) -> str:
        """The server's own address for people and programs."""
        return f"https://{self.login_server}"

    @property
    def own_url(self) -> str:
        """The address at which the server's own processes reach it, past any relay."""
        host = "localhost" if self.host is None or self.host in _EVERY_ADDRESS else self.host
        return f"https://[{host}]:{self.port}" if ":" in host else f"https://{host}:{self.port}"

    @property
    def told_mqtt_port(self) -> int:
        """The MQTT port that devices are told."""
        return self.mqtt_port if self.public_mqtt_port is None else self.public_mqtt_port

    @property
    def registry_place(self) -> StorePlace:
        """Where the registry keeps layers."""
        return self.blobs or StorePlace(str(self.data / "blobs" / "registry"))

    def certificate_names(self) -> tuple[str, ...]:
        """Return every name and address the server's certificate is for, sorted."""
        names = {"localhost", "127.0.0.1", "::1", self.public_host, *self.host_names}
        machine = socket.gethostname()
        if _HOST_NAME.fullmatch(machine):
            names.add(machine)
        if self.host is not None and self.host not in _EVERY_ADDRESS:
            names.add(self.host)
        return tuple(sorted(names))


def place_of_blobs(
    location: str | None, endpoint: str | None, region: str | None, plain_http: bool
) -> StorePlace | None:
    """Return where layers are kept, of what the user gave with --blobs…; None when it is the data folder.

    Raises `Invalid` when the rest is given without a place: it would be forgotten.
    """
    if location is not None:
        return StorePlace(location, endpoint, region, plain_http)
    if endpoint or region or plain_http:
        raise Invalid("--blobs-endpoint, --blobs-region and --blobs-plain-http lead to a bucket: name it with --blobs")
    return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _parse_public_url(url: str) -> tuple[str, int]:
    """Return host and port of `https://host[:port]`; Invalid for anything more."""
    way_out = "give it as https://name or https://name:port"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise Invalid(f"public URL {url!r}: {e}; {way_out}") from e
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise Invalid(f"public URL {url!r} cannot be used: {way_out}")
    if parts.username is not None:
        raise Invalid(f"public URL must not hold a user name; {way_out}")
    return parts.hostname, 443 if port is None else port
