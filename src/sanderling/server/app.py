"""One ASGI application for everything the server answers over HTTPS.

/api, /.well-known, /healthz   the public API
/v2                            the registry
/devices, /twins, ...          the hub's REST
everything else                the portal, which also says that a page is not there
"""

from starlette.routing import Router

from sanderling import portal
from sanderling.sdk.client import Client
from sanderling.server.api import create_api
from sanderling.server.front import App, Front, SafeHeaders
from sanderling.server.parts import Parts

API_PATHS = ("/api", "/.well-known", "/healthz")


def create_app(parts: Parts) -> App:
    """Return the application over *parts*."""
    by_path: dict[str, App] = dict.fromkeys(API_PATHS, create_api(parts))
    by_path["/v2"] = parts.registry.app()
    hub = Router(parts.hub.rest_routes(), redirect_slashes=False, default=create_portal(parts))
    return SafeHeaders(Front(by_path, hub))


def create_portal(parts: Parts) -> App:
    """Return the portal. Its calls come in by the front door, like everybody's, from this machine."""

    def client_for(token: str) -> Client:
        return Client(parts.settings.own_url, token=token or None, ca_file=parts.tls.ca)

    return portal.app(client_for)
