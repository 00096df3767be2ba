"""Models of a workspace: register, list, describe, read files, delete."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from pydantic import Field

from sanderling.errors import Conflict, Invalid
from sanderling.oci import Digest
from sanderling.server.api.depends import PartsDep, Shape, WorkspaceDep
from sanderling.workspace import ModelVersion

router = APIRouter(prefix="/workspaces/{ws}/models", tags=["models"])


class NewFile(Shape):
    path: str
    digest: str
    size: int | None = None


class NewModel(Shape):
    name: str
    files: list[NewFile]
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    description: str = ""


class FileShape(Shape):
    path: str
    digest: str
    size: int


class ModelShape(Shape):
    name: str
    version: int
    id: str
    description: str
    tags: dict[str, str]
    properties: dict[str, str]
    created_at: datetime
    files: list[FileShape]
    size_bytes: int


class ModelList(Shape):
    models: list[ModelShape]


@router.post("", status_code=201)
def register_model(parts: PartsDep, ws: WorkspaceDep, body: NewModel) -> ModelShape:
    """Register the next version of a model from content that was sent before. It never changes afterwards."""
    files: dict[str, Digest] = {}
    for file in body.files:
        if file.path in files:
            raise Invalid(f"the path {file.path!r} is given twice")
        files[file.path] = Digest.parse(file.digest)
    sizes = parts.workspaces.find_sizes(ws, files.values())
    for file in body.files:
        held = sizes.get(files[file.path])
        if held is not None and file.size not in (None, held):
            raise Invalid(f"{file.path!r} has {held} bytes, but {file.size} were announced")
    return shape(parts.workspaces.register(ws, body.name, files, body.tags, body.properties, body.description))


@router.get("")
def list_models(
    parts: PartsDep,
    ws: WorkspaceDep,
    name: str | None = None,
    tag: Annotated[list[str] | None, Query(description="key or key=value; all given must fit")] = None,
    latest: Annotated[bool, Query(description="of those that fit, only the highest version of each name")] = False,
) -> ModelList:
    """List model versions, newest first, at most 1000."""
    found = parts.workspaces.find_models(ws, name=name, tags=tag or (), latest=latest)
    return ModelList(models=[shape(model) for model in found])


@router.get("/{name}")
def get_latest_model(parts: PartsDep, ws: WorkspaceDep, name: str) -> ModelShape:
    """Describe the highest version of a model."""
    return shape(parts.workspaces.get_model(ws, name))


@router.get("/{name}/versions/{version}")
def get_model(parts: PartsDep, ws: WorkspaceDep, name: str, version: int) -> ModelShape:
    """Describe one version of a model."""
    return shape(parts.workspaces.get_model(ws, name, version))


@router.delete("/{name}/versions/{version}", status_code=204)
def delete_model(parts: PartsDep, ws: WorkspaceDep, name: str, version: int) -> Response:
    """Delete one version; its number is never used again. 409 when an image was built from it."""
    with parts.models_in_use:
        parts.workspaces.get_model(ws, name, version)
        users = [image.id for image in parts.builds.find_users(ws, name, version)]
        if users:
            raise Conflict(f"model '{name}:{version}' is in the images {', '.join(users[:5])}: delete those first")
        parts.workspaces.delete_model(ws, name, version)
    return Response(status_code=204)


@router.get(
    "/{name}/versions/{version}/files/{path:path}",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def read_model_file(parts: PartsDep, ws: WorkspaceDep, name: str, version: int, path: str) -> FileResponse:
    """Return the bytes of one file; ranges work, the ETag is its digest."""
    file, stored = parts.workspaces.get_file(ws, name, version, path)
    return FileResponse(
        stored,
        media_type="application/octet-stream",
        filename=path.rsplit("/", 1)[-1],
        headers={"ETag": f'"{file.digest}"'},
    )


def shape(model: ModelVersion) -> ModelShape:
    """Return the JSON shape of a model version."""
    files = [FileShape(path=file.path, digest=str(file.digest), size=file.size_bytes) for file in model.files]
    return ModelShape(
        name=model.name,
        version=model.version,
        id=model.id,
        description=model.description,
        tags=dict(model.tags),
        properties=dict(model.properties),
        created_at=model.created_at,
        files=files,
        size_bytes=model.size_bytes,
    )
