"""Devices and their modules, over the hub's IoT Hub REST."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sanderling.errors import Conflict, NotFound
from sanderling.iot.identity import check_id
from sanderling.sdk.hints import hinted
from sanderling.sdk.reports import DesiredStatus, ModuleState, activity_time, desired_status_in, module_states_in
from sanderling.sdk.wire import endpoint
from sanderling.sdk.workspace import Workspace

API_VERSION = {"api-version": "2021-04-12"}


@dataclass(frozen=True)
class Device:
    """A device that the hub knows.

    Attributes:
        workspace: The way to the server; devices belong to the server, not to one workspace.
        device_id: Its name.
        is_edge: Whether it runs the edge runtime.
        status: enabled or disabled.
        is_connected: Whether it was connected when asked.
        last_activity_time: When the hub heard of it last.
        tags: The tags of its twin as they were when asked; empty from `create` and `list`.
    """

    workspace: Workspace
    device_id: str
    is_edge: bool
    status: str
    is_connected: bool
    last_activity_time: datetime | None
    tags: Mapping[str, Any]

    @classmethod
    def create(cls, workspace: Workspace, device_id: str, edge: bool = True, exist_ok: bool = False) -> "Device":
        """Register a device; the hub makes its keys.

        Args:
            workspace: The way to the server.
            device_id: Its name: letters, digits and -.%_*?!(),:=@$', at most 128.
            edge: Whether it runs the edge runtime.
            exist_ok: Return the device that has this name already.

        Returns:
            The device.

        Raises:
            Invalid: The name cannot be one.
            Conflict: It exists, and `exist_ok` is not set.
        """
        check_id("device", device_id)
        body = {
            "deviceId": device_id,
            "status": "enabled",
            "capabilities": {"iotEdge": edge},
            "authentication": {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}},
        }
        try:
            answer = _rest(workspace, "PUT", "devices", device_id, body=body)
        except Conflict as error:
            if exist_ok:
                return cls.get(workspace, device_id)
            raise hinted(
                Conflict(f"device {device_id!r} exists already"), f"sanderling device show {device_id}"
            ) from error
        return cls.from_json(workspace, answer)

    @classmethod
    def get(cls, workspace: Workspace, device_id: str) -> "Device":
        """Look a device up.

        Args:
            workspace: The way to the server.
            device_id: Its name.

        Returns:
            The device.

        Raises:
            NotFound: The hub does not know it.
        """
        try:
            values = _rest(workspace, "GET", "devices", device_id)
            twin = _rest(workspace, "GET", "twins", device_id)
        except NotFound as error:
            raise _unknown(device_id) from error
        return cls.from_json(workspace, {**values, "tags": twin.get("tags")})

    @classmethod
    def list(cls, workspace: Workspace, limit: int = 1000) -> Sequence["Device"]:
        """List devices.

        Args:
            workspace: The way to the server.
            limit: How many at most, 1000 at the most.

        Returns:
            The devices.
        """
        entries = workspace.client.call("GET", "/devices", params={**API_VERSION, "top": limit})
        return [cls.from_json(workspace, entry) for entry in entries]

    def connection_string(self) -> str:
        """Return what the device needs to connect. It is a secret.

        Returns:
            `HostName=...;DeviceId=...;SharedAccessKey=...`.
        """
        answer = self.workspace.client.call(
            "GET", endpoint("api", "v1", "devices", self.device_id, "connection-string")
        )
        return str(answer["connectionString"])

    def modules(self) -> Sequence[ModuleState]:
        """Read which modules the device is to run, and what it reports of them.

        Returns:
            The modules by name, those of the edge runtime first; empty for a device without the edge runtime.
        """
        return module_states_in(self.agent_twin())

    def desired_status(self) -> DesiredStatus:
        """Read how far the device is with the deployment it was given.

        Returns:
            The version it speaks of and its verdict.
        """
        return desired_status_in(self.agent_twin())

    def agent_twin(self) -> dict[str, Any]:
        """Read the twin of `$edgeAgent`.

        Returns:
            Its properties, `{"desired": ..., "reported": ...}`; empty for a device without the edge runtime.
        """
        try:
            twin = _rest(self.workspace, "GET", "twins", self.device_id, "modules", "$edgeAgent")
        except NotFound:
            return {}
        return dict(twin.get("properties") or {})

    def create_module(self, module_id: str, exist_ok: bool = False) -> str:
        """Register an identity for a module that the edge runtime does not manage, such as a sensor of yours.

        Args:
            module_id: Its name.
            exist_ok: Return the key of the module that has this name already.

        Returns:
            Its primary key, in base64. It is a secret.

        Raises:
            Conflict: It exists, and `exist_ok` is not set.
        """
        body = {"deviceId": self.device_id, "moduleId": module_id, "authentication": {"type": "sas"}}
        try:
            answer = _rest(self.workspace, "PUT", "devices", self.device_id, "modules", module_id, body=body)
        except Conflict:
            if not exist_ok:
                raise
            answer = _rest(self.workspace, "GET", "devices", self.device_id, "modules", module_id)
        return str(answer["authentication"]["symmetricKey"]["primaryKey"])

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Give the device a deployment manifest; its edge runtime then makes it so.

        Args:
            manifest: `{"modulesContent": {...}}`.

        Raises:
            Invalid: The hub refuses it; the device keeps the deployment it had.
        """
        try:
            _rest(self.workspace, "POST", "devices", self.device_id, "applyConfigurationContent", body=dict(manifest))
        except NotFound as error:
            if "image" in error.message:
                raise
            raise _unknown(self.device_id) from error

    def delete(self) -> None:
        """Delete the device with its modules and keys."""
        try:
            _rest(self.workspace, "DELETE", "devices", self.device_id, headers={"If-Match": "*"})
        except NotFound as error:
            raise _unknown(self.device_id) from error

    @classmethod
    def from_json(cls, workspace: Workspace, values: Mapping[str, Any]) -> "Device":
        """Build a device from what the hub says of it."""
        return cls(
            workspace=workspace,
            device_id=values["deviceId"],
            is_edge=bool((values.get("capabilities") or {}).get("iotEdge")),
            status=values.get("status") or "enabled",
            is_connected=values.get("connectionState") == "Connected",
            last_activity_time=activity_time(values.get("lastActivityTime")),
            tags=dict(values.get("tags") or {}),
        )

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "deviceId": self.device_id,
            "edge": self.is_edge,
            "status": self.status,
            "connected": self.is_connected,
            "lastActivityAt": self.last_activity_time.isoformat() if self.last_activity_time else None,
            "tags": dict(self.tags),
        }


def _rest(
    workspace: Workspace, method: str, *segments: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Any:
    # A PUT without If-Match creates; sent twice, the second would be a conflict with the first.
    return workspace.client.call(
        method,
        endpoint(*segments),
        body=body,
        params=API_VERSION,
        headers=headers,
        repeatable=method in ("GET", "DELETE"),
    )


def _unknown(device_id: str) -> NotFound:
    return hinted(NotFound(f"there is no device {device_id!r}"), "sanderling device list")
