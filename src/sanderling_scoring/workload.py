"""Who this module is, and the workload API that vouches for it.

The module never holds a key: the edge runtime signs its tokens and names the
certificates to trust, over a unix socket of this module's own.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from urllib.parse import quote, urlsplit

from sanderling_scoring.settings import BadSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Optional

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20


class WorkloadError(Exception):
    """The workload API cannot be reached or refused."""


class ModuleIdentity:
    """What the edge runtime tells a module in its environment."""

    def __init__(
        self,
        *,
        hub: str,
        device_id: str,
        module_id: str,
        generation_id: str,
        gateway: str,
        gateway_port: int,
        workload_uri: str,
        api_version: str,
    ) -> None:
        self.hub = hub
        self.device_id = device_id
        self.module_id = module_id
        self.generation_id = generation_id
        self.gateway = gateway
        self.gateway_port = gateway_port
        self.workload_uri = workload_uri
        self.api_version = api_version

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ModuleIdentity:
        """Read the IOTEDGE_* variables; raises BadSettings and names the one that is missing."""

        def read(name: str) -> str:
            value = environ.get(name, "")
            if not value:
                raise BadSettings(f"{name} is missing, which the edge runtime gives to every module")
            return value

        port = environ.get("SANDERLING_GATEWAY_PORT") or "8883"
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise BadSettings(f"SANDERLING_GATEWAY_PORT={port} is not a port")
        return cls(
            hub=read("IOTEDGE_IOTHUBHOSTNAME"),
            device_id=read("IOTEDGE_DEVICEID"),
            module_id=read("IOTEDGE_MODULEID"),
            generation_id=read("IOTEDGE_MODULEGENERATIONID"),
            gateway=read("IOTEDGE_GATEWAYHOSTNAME"),
            gateway_port=int(port),
            workload_uri=read("IOTEDGE_WORKLOADURI"),
            api_version=environ.get("IOTEDGE_APIVERSION") or "2020-07-07",
        )

    @property
    def client_id(self) -> str:
        """The MQTT client id."""
        return f"{self.device_id}/{self.module_id}"

    def token(self, expires_at: int) -> str:
        """Return a SAS token that the workload API signed, good until *expires_at* (unix seconds)."""
        resource = quote(f"{self.hub}/devices/{self.device_id}/modules/{self.module_id}", safe="")
        signature = WorkloadApi(self).sign(f"{resource}\n{expires_at}".encode())
        return f"SharedAccessSignature sr={resource}&sig={quote(signature, safe='')}&se={expires_at}"


class WorkloadApi:
    """The calls of the workload API that a module makes; each opens a connection of its own."""

    def __init__(self, identity: ModuleIdentity) -> None:
        self._identity = identity

    def sign(self, data: bytes) -> str:
        """Return the base64 HMAC-SHA256 of *data* under this module's key."""
        module, generation = quote(self._identity.module_id, safe=""), quote(self._identity.generation_id, safe="")
        answer = self._call(
            "POST",
            f"/modules/{module}/genid/{generation}/sign",
            {"keyId": "primary", "algo": "HMACSHA256", "data": base64.b64encode(data).decode("ascii")},
        )
        return _text(answer, "digest")

    def trust_bundle(self) -> str:
        """Return the PEM certificates to trust."""
        return _text(self._call("GET", "/trust-bundle", None), "certificate")

    def _call(self, method: str, path: str, body: Optional[dict[str, str]]) -> Any:
        uri = self._identity.workload_uri
        connection = _connect(uri)
        try:
            data = None if body is None else json.dumps(body).encode()
            target = f"{path}?api-version={quote(self._identity.api_version, safe='')}"
            connection.request(method, target, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as e:
            raise WorkloadError(f"workload API {uri}: {e or type(e).__name__}") from e
        finally:
            connection.close()
        if response.status >= 300:
            raise WorkloadError(f"workload API {uri}: {method} {path} was answered {response.status}")
        try:
            return json.loads(raw)
        except ValueError:
            raise WorkloadError(f"workload API {uri}: {method} {path} was not answered with JSON") from None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def _connect(uri: str) -> http.client.HTTPConnection:
    parts = urlsplit(uri)
    if parts.scheme == "unix" and parts.path:
        return _UnixConnection(parts.path)
    if parts.scheme == "http" and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT_S)
    raise WorkloadError(f"IOTEDGE_WORKLOADURI={uri} is neither unix:///path nor http://host:port")


def _text(answer: Any, name: str) -> str:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, str) or not value:
        raise WorkloadError(f"the workload API's answer has no {name}")
    return value
