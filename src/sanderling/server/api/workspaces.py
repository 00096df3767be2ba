"""Workspaces, and tokens for one workspace."""

from datetime import datetime

from fastapi import APIRouter

from sanderling.errors import Conflict
from sanderling.server.api.depends import CallerDep, OwnerDep, PartsDep, Shape, WorkspaceDep
from sanderling.server.parts import Parts
from sanderling.workspace import WorkspaceInfo

router = APIRouter(prefix="/workspaces", tags=["workspaces"])


class NewWorkspace(Shape):
    name: str
    exist_ok: bool = False


class WorkspaceShape(Shape):
    name: str
    created_at: datetime
    login_server: str
    model_count: int
    image_count: int


class WorkspaceList(Shape):
    workspaces: list[WorkspaceShape]


class NewToken(Shape):
    token: str


@router.post("", status_code=201)
def create_workspace(parts: PartsDep, caller: CallerDep, body: NewWorkspace) -> WorkspaceShape:
    """Make a workspace. With existOk an existing one is returned as it is."""
    if caller.is_owner:
        if any(upstream.takes(body.name) for upstream in parts.upstreams.all()):
            raise Conflict(f"an upstream of the registry has the name {body.name!r}: choose another for the workspace")
        return _shape(parts, parts.workspaces.create(body.name, exist_ok=body.exist_ok))
    # A workspace's token may repeat its own `init`, and nothing else.
    caller.require_workspace(body.name)
    return _shape(parts, parts.workspaces.get(body.name))


@router.get("")
def list_workspaces(parts: PartsDep, caller: CallerDep) -> WorkspaceList:
    """List the workspaces that the caller may see, by name."""
    seen = [info for info in parts.workspaces.list_all() if caller.workspace in (None, info.name)]
    return WorkspaceList(workspaces=[_shape(parts, info) for info in seen])


@router.get("/{ws}")
def get_workspace(parts: PartsDep, ws: WorkspaceDep) -> WorkspaceShape:
    """Describe one workspace."""
    return _shape(parts, parts.workspaces.get(ws))


@router.post("/{ws}/tokens", status_code=201)
def create_token(parts: PartsDep, owner: OwnerDep, ws: WorkspaceDep) -> NewToken:
    """Make a token for this workspace alone; it is shown this once. Only the owner may."""
    parts.workspaces.get(ws)
    return NewToken(token=parts.access.create_workspace_token(ws).secret)


def _shape(parts: Parts, info: WorkspaceInfo) -> WorkspaceShape:
    return WorkspaceShape(
        name=info.name,
        created_at=info.created_at,
        login_server=parts.settings.login_server,
        model_count=info.model_count,
        image_count=len(parts.builds.list(info.name)),
    )
