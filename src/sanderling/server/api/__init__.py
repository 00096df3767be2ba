"""The public HTTP API: thin handlers over the stages, one table of errors, an OpenAPI document.

`create_api(parts)` returns the application that answers `/api`, `/.well-known` and `/healthz`.
"""

from fastapi import APIRouter, FastAPI

from sanderling.server.api import (
    blobs,
    devices,
    images,
    messages,
    models,
    registry,
    registry_space,
    registry_tokens,
    registry_upstreams,
    sign_in,
    signing_key,
    well_known,
    workspaces,
)
from sanderling.server.api.errors import add_handlers
from sanderling.server.api.limits import LimitBodies
from sanderling.server.parts import Parts
from sanderling.server.version import product_version

__all__ = ["create_api"]


def create_api(parts: Parts) -> FastAPI:
    """Return the API over *parts*. Its document is at /api/openapi.json; pages that load from elsewhere are off."""
    app = FastAPI(
        title="Sanderling",
        version=product_version(),
        description="Models, images, registry, devices and messages of a Sanderling server.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        servers=[{"url": parts.settings.url}],
    )
    app.state.parts = parts
    v1 = APIRouter(prefix="/api/v1")
    for module in (
        sign_in,
        workspaces,
        blobs,
        models,
        images,
        registry,
        registry_space,
        registry_tokens,
        registry_upstreams,
        devices,
        messages,
        signing_key,
    ):
        v1.include_router(module.router)
    app.include_router(v1)
    app.include_router(well_known.router)
    add_handlers(app)
    app.add_middleware(LimitBodies, admit=parts.access.authenticate)
    return app
