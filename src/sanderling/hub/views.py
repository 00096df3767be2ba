"""How devices, modules and twins look in IoT Hub's REST API."""

from datetime import UTC, datetime
from typing import Any

from sanderling.errors import Invalid
from sanderling.hub.identities import Identity, IdentityChange
from sanderling.hub.twins import Twin

Json = dict[str, Any]
_NEVER = "0001-01-01T00:00:00Z"  # what the public hub writes for a time that never was
_NO_THUMBPRINT = {"primaryThumbprint": None, "secondaryThumbprint": None}


def time_text(seconds: float | None) -> str:
    """Return a time in seconds since 1970 as RFC 3339, UTC."""
    if seconds is None:
        return _NEVER
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def device_json(device: Identity, *, is_connected: bool) -> Json:
    """Return a device, keys included."""
    return {
        "deviceId": device.device_id,
        "generationId": device.generation_id,
        "etag": device.etag,
        "connectionState": _connection_state(is_connected),
        "status": _status(device),
        "statusReason": device.status_reason,
        "connectionStateUpdatedTime": time_text(device.connection_updated_at),
        "statusUpdatedTime": time_text(device.status_updated_at),
        "lastActivityTime": time_text(device.last_activity_at),
        "createdTime": time_text(device.created_at),
        "cloudToDeviceMessageCount": 0,
        "authentication": _authentication(device),
        "capabilities": {"iotEdge": device.is_edge},
    }


def module_json(module: Identity, *, is_connected: bool) -> Json:
    """Return a module, keys included."""
    return {
        "moduleId": module.module_id,
        "managedBy": module.managed_by,
        "deviceId": module.device_id,
        "generationId": module.generation_id,
        "etag": module.etag,
        "connectionState": _connection_state(is_connected),
        "connectionStateUpdatedTime": time_text(module.connection_updated_at),
        "lastActivityTime": time_text(module.last_activity_at),
        "cloudToDeviceMessageCount": 0,
        "authentication": _authentication(module),
    }


def twin_json(twin: Twin, identity: Identity, *, is_connected: bool) -> Json:
    """Return a twin as services see it."""
    view: Json = {
        "deviceId": twin.device_id,
        "etag": twin.etag,
        "version": twin.version,
        "status": _status(identity),
        "statusReason": identity.status_reason,
        "statusUpdateTime": time_text(identity.status_updated_at),
        "connectionState": _connection_state(is_connected),
        "lastActivityTime": time_text(identity.last_activity_at),
        "cloudToDeviceMessageCount": 0,
        "authenticationType": "sas",
        "x509Thumbprint": _NO_THUMBPRINT,
        "deviceEtag": identity.etag,
        "tags": twin.tags,
        "properties": {"desired": twin.desired.to_service_json(), "reported": twin.reported.to_service_json()},
    }
    if twin.module_id is None:
        return view | {"capabilities": {"iotEdge": identity.is_edge}}
    return view | {"moduleId": twin.module_id}


def read_identity(document: Json, device_id: str, module_id: str | None) -> IdentityChange:
    """Read the body of a PUT. Raises Invalid when it contradicts the path, or asks for what we do not have."""
    for name, value in (("deviceId", device_id), ("moduleId", module_id)):
        if value is not None and document.get(name, value) not in (value, None):
            raise Invalid(f"{name!r} in the body is not the one in the path")
    status = document.get("status")
    if status not in (None, "enabled", "disabled"):
        raise Invalid("'status' is 'enabled' or 'disabled'")
    authentication = _object(document, "authentication")
    if authentication.get("type") not in (None, "sas", "none"):
        raise Invalid("'authentication.type' is 'sas': this hub knows no other yet")
    key = _object(authentication, "symmetricKey")
    is_edge = _object(document, "capabilities").get("iotEdge")
    if is_edge not in (None, True, False):
        raise Invalid("'capabilities.iotEdge' is true or false")
    return IdentityChange(
        is_enabled=None if status is None else status == "enabled",
        status_reason=_text(document, "statusReason", 128),
        primary_key=_text(key, "primaryKey", 128) or None,
        secondary_key=_text(key, "secondaryKey", 128) or None,
        is_edge=is_edge,
        managed_by=_text(document, "managedBy", 64),
    )


def _object(document: Json, name: str) -> Json:
    value = document.get(name)
    if value is not None and not isinstance(value, dict):
        raise Invalid(f"{name!r} is not a JSON object")
    return value or {}


def _text(document: Json, name: str, limit: int) -> str | None:
    value = document.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > limit):
        raise Invalid(f"{name!r} is not text of at most {limit} characters")
    return value


def _authentication(identity: Identity) -> Json:
    keys = {"primaryKey": identity.primary_key, "secondaryKey": identity.secondary_key}
    return {"symmetricKey": keys, "x509Thumbprint": _NO_THUMBPRINT, "type": "sas"}


def _status(identity: Identity) -> str:
    return "enabled" if identity.is_enabled else "disabled"


def _connection_state(is_connected: bool) -> str:
    return "Connected" if is_connected else "Disconnected"
