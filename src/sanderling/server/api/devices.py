"""What the hub's own REST (`/devices`, `/twins`, ...) does not tell: a device's connection string."""

from fastapi import APIRouter

from sanderling.server.api.depends import OwnerDep, PartsDep, Shape

router = APIRouter(prefix="/devices", tags=["devices"])


class ConnectionStringShape(Shape):
    connection_string: str


@router.get("/{device}/connection-string")
def get_connection_string(parts: PartsDep, _: OwnerDep, device: str) -> ConnectionStringShape:
    """Show the device's connection string, with its primary key. Only the owner may."""
    text = parts.hub.device_connection_string(device, parts.settings.login_server)
    return ConnectionStringShape(connection_string=text)
