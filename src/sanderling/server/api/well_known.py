"""What anyone may know of a server: how to reach it, and which authority to trust."""

from fastapi import APIRouter
from fastapi.responses import FileResponse
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from sanderling.errors import Unavailable
from sanderling.server.api.depends import PartsDep, Shape
from sanderling.server.version import product_version

router = APIRouter(tags=["server"])


class Server(Shape):
    product: str
    api_version: str
    version: str
    mqtt_port: int
    login_server: str


class Health(Shape):
    status: str


@router.get("/.well-known/sanderling")
def describe_server(parts: PartsDep) -> Server:
    """Tell devices and clients the ports and names of this server. Needs no token."""
    return Server(
        product="sanderling",
        api_version="v1",
        version=product_version(),
        mqtt_port=parts.settings.told_mqtt_port,
        login_server=parts.settings.login_server,
    )


@router.get("/.well-known/sanderling/ca.pem", response_class=FileResponse)
def read_authority(parts: PartsDep) -> FileResponse:
    """Return the certificate of the server's authority. Compare its fingerprint before trusting it."""
    return FileResponse(parts.tls.ca, media_type="application/x-pem-file", filename="ca.pem")


@router.get("/healthz")
def health(parts: PartsDep) -> Health:
    """Answer 200 when the server works and its database answers; 503 otherwise. Needs no token."""
    try:
        with parts.engine.connect() as connection:
            connection.execute(select(1))
    except SQLAlchemyError as e:
        raise Unavailable("the database does not answer; the server's log says why") from e
    return Health(status="ok")
