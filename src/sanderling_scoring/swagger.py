"""The API description at /swagger.json, in Swagger 2.0 and OpenAPI 3.

A file `swagger.json` or `swagger2.json` (version 2), or `swagger3.json` (3 and
3.1) beside the script is sent instead.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

VERSIONS = {"2": "2", "2.0": "2", "3": "3", "3.0": "3", "3.1": "3.1"}
UNKNOWN_VERSION = "Swagger version is not valid. Supported versions: [2, 3, 3.1]."
_FILES = {"2": ("swagger2.json", "swagger.json"), "3": ("swagger3.json",), "3.1": ("swagger3.json",)}


def document(
    version: str, *, folder: str, name: str, service_version: str, prefix: str, run: Callable[..., Any]
) -> Optional[bytes]:
    """Return the description in that version as JSON, or None for an unknown version."""
    known = VERSIONS.get(version)
    if known is None:
        return None
    for file in _FILES[known]:
        try:
            with open(os.path.join(folder, file), "rb") as f:
                return f.read()
        except OSError:
            continue
    schemas = _schemas(run)
    info = {"title": name, "version": service_version, "description": f"Scores with the model of {name}."}
    if known == "2":
        return json.dumps(
            {
                "swagger": "2.0",
                "info": info,
                "schemes": ["https"],
                "consumes": ["application/json"],
                "produces": ["application/json"],
                "paths": _paths(prefix, is_openapi=False),
                "definitions": schemas,
            }
        ).encode()
    return json.dumps(
        {
            "openapi": "3.0.3" if known == "3" else "3.1.0",
            "info": info,
            "paths": _paths(prefix, is_openapi=True),
            "components": {"schemas": schemas},
        }
    ).encode()


def _schemas(run: Callable[..., Any]) -> dict[str, Any]:
    schemas: dict[str, Any] = {
        "ServiceInput": {"type": "object", "example": {}},
        "ServiceOutput": {"type": "object", "example": {}},
        "ErrorResponse": {"type": "object", "properties": {"message": {"type": "string"}}},
    }
    util = sys.modules.get("inference_schema.schema_util")
    if util is not None and util.is_schema_decorated(run):
        schemas["ServiceInput"] = util.get_input_schema(run)
        schemas["ServiceOutput"] = util.get_output_schema(run)
    return schemas


def _paths(prefix: str, *, is_openapi: bool) -> dict[str, Any]:
    place = "#/components/schemas/" if is_openapi else "#/definitions/"

    def answer(text: str, schema: dict[str, Any], kind: str) -> dict[str, Any]:
        if is_openapi:
            return {"description": text, "content": {kind: {"schema": schema}}}
        return {"description": text, "schema": schema}

    failed = answer("It failed; the message says why.", {"$ref": place + "ErrorResponse"}, "application/json")
    score: dict[str, Any] = {
        "operationId": "RunMLService",
        "description": "Score the input with the model.",
        "responses": {
            "200": answer("What the model says.", {"$ref": place + "ServiceOutput"}, "application/json"),
            "default": failed,
        },
    }
    schema = {"$ref": place + "ServiceInput"}
    if is_openapi:
        score["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    else:
        score["parameters"] = [{"name": "serviceInputPayload", "in": "body", "schema": schema}]
    health = {
        "operationId": "ServiceHealthCheck",
        "description": "Whether the service is up.",
        "responses": {"200": answer("It is up.", {"type": "string"}, "text/html"), "default": failed},
    }
    return {f"{prefix}/": {"get": health}, f"{prefix}/score": {"post": score}}
