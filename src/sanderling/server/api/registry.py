"""What a workspace has in the registry, and the access keys of its admin user."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter

from sanderling.registry import AdminUser, is_companion
from sanderling.server.api.depends import PartsDep, Shape, WorkspaceDep
from sanderling.server.parts import Parts

router = APIRouter(prefix="/workspaces/{ws}/registry", tags=["registry"])


class TagShape(Shape):
    name: str
    digest: str
    size_bytes: int
    pushed_at: datetime


class RepositoryShape(Shape):
    name: str
    tags: list[TagShape]


class RegistryShape(Shape):
    login_server: str
    repositories: list[RepositoryShape]


class PasswordShape(Shape):
    name: str
    value: str


class Credentials(Shape):
    """passwords is empty while the admin user is off."""

    login_server: str
    admin_user_enabled: bool
    username: str
    passwords: list[PasswordShape]


class AdminUserState(Shape):
    enabled: bool


class PasswordChoice(Shape):
    name: Literal["password", "password2"]


@router.get("")
def get_registry(parts: PartsDep, ws: WorkspaceDep) -> RegistryShape:
    """List the workspace's repositories and their tags, the latest push first; signatures' tags are no images."""
    parts.workspaces.get(ws)
    repositories = []
    for name in parts.registry.repositories(ws):
        tags = [
            TagShape(name=tag.name, digest=str(tag.digest), size_bytes=tag.size_bytes, pushed_at=tag.pushed_at)
            for tag in parts.registry.tags(name)
            if not is_companion(tag.name)
        ]
        repositories.append(RepositoryShape(name=name, tags=tags))
    return RegistryShape(login_server=parts.settings.login_server, repositories=repositories)


@router.get("/credentials")
def get_credentials(parts: PartsDep, ws: WorkspaceDep) -> Credentials:
    """Show login server, user name and, while the admin user is on, both passwords."""
    parts.workspaces.get(ws)
    return _shape(parts, parts.credentials.admin(ws))


@router.post("/admin-user")
def set_admin_user(parts: PartsDep, ws: WorkspaceDep, body: AdminUserState) -> Credentials:
    """Switch the admin user on or off. Off, its passwords are refused."""
    parts.workspaces.get(ws)
    return _shape(parts, parts.credentials.set_admin_enabled(ws, body.enabled))


@router.post("/regenerate")
def regenerate_password(parts: PartsDep, ws: WorkspaceDep, body: PasswordChoice) -> Credentials:
    """Replace one of the two passwords; the old one is refused from now on."""
    parts.workspaces.get(ws)
    return _shape(parts, parts.credentials.regenerate(ws, body.name))


def _shape(parts: Parts, admin: AdminUser) -> Credentials:
    names = ("password", "password2")
    shown = [PasswordShape(name=name, value=value) for name, value in zip(names, admin.passwords, strict=True)]
    return Credentials(
        login_server=parts.settings.login_server,
        admin_user_enabled=admin.enabled,
        username=admin.username,
        passwords=shown if admin.enabled else [],
    )
