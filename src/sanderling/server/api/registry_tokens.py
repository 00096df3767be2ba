"""The registry's named tokens, and short-lived passwords for who is signed in."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from sanderling.errors import Invalid, NotFound
from sanderling.registry import IssuedToken, NamedToken, Scope
from sanderling.server.api.depends import CallerDep, PartsDep, Shape, WorkspaceDep
from sanderling.server.parts import Parts
from sanderling.server.registry_access import principal_of

# As long as `az acr login` gives.
LOGIN_LIFE_S = 3 * 3600
LOGIN_USER = "token"

router = APIRouter(prefix="/workspaces/{ws}/registry", tags=["registry"])


class ScopeShape(Shape):
    """What may be done where. *repositories* is a repository's name, `FOLDER/*`, or `WORKSPACE/*` for all."""

    repositories: str
    actions: list[Literal["pull", "push", "delete", "list"]]


class NewRegistryToken(Shape):
    """expiresAt is left out for a token that ends when it is deleted. A device's token ends with the device."""

    name: str
    scopes: Annotated[list[ScopeShape], Field(max_length=1000)]
    expires_at: datetime | None = None
    description: str = ""
    device: str | None = None


class RegistryTokenShape(Shape):
    """username is what `docker login` is given; usedAt is exact to the minute."""

    name: str
    username: str
    description: str
    scopes: list[ScopeShape]
    enabled: bool
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    device: str | None


class RegistryTokenList(Shape):
    login_server: str
    tokens: list[RegistryTokenShape]


class IssuedRegistryToken(Shape):
    """The password is shown this once."""

    login_server: str
    token: RegistryTokenShape
    password: str


class TokenState(Shape):
    enabled: bool


class RegistryLogin(Shape):
    """A user name and a password for `docker login` that end by themselves."""

    login_server: str
    username: str
    password: str
    expires_at: datetime


@router.post("/login")
def log_in(parts: PartsDep, ws: WorkspaceDep, caller: CallerDep) -> RegistryLogin:
    """Make a password for the workspace's repositories; the owner's may also pull through upstreams.

    It lasts three hours, or as long as the caller's own token.
    """
    parts.workspaces.get(ws)
    principal = principal_of(caller)
    ends_at = datetime.now(UTC).timestamp() + LOGIN_LIFE_S
    if principal.expires_at is not None:
        ends_at = min(ends_at, principal.expires_at)
    scopes = [Scope.of(f"{ws}/*", "pull", "push", "delete", "list")]
    if caller.is_owner:  # to whom upstreams belong: base images come through them
        scopes += [Scope.of(f"{upstream.name}/*", "pull") for upstream in parts.upstreams.all()]
    password = parts.credentials.grant(principal.narrowed(scopes, catalogue=True), LOGIN_LIFE_S)
    return RegistryLogin(
        login_server=parts.settings.login_server,
        username=LOGIN_USER,
        password=password,
        expires_at=datetime.fromtimestamp(int(ends_at), UTC),
    )


@router.get("/tokens")
def list_tokens(parts: PartsDep, ws: WorkspaceDep) -> RegistryTokenList:
    """List the registry's named tokens by name, without their passwords."""
    parts.workspaces.get(ws)
    tokens = [_shape(token) for token in parts.credentials.tokens.of(ws)]
    return RegistryTokenList(login_server=parts.settings.login_server, tokens=tokens)


@router.post("/tokens", status_code=201)
def create_token(parts: PartsDep, ws: WorkspaceDep, caller: CallerDep, body: NewRegistryToken) -> IssuedRegistryToken:
    """Make a named token; its password is shown this once. For a device, only the owner may."""
    parts.workspaces.get(ws)
    device = ("", "")
    if body.device is not None:
        caller.require_owner("make a token for a device")
        device = _device(parts, body.device)
    issued = parts.credentials.tokens.create(
        ws,
        body.name,
        [Scope.of(scope.repositories, *scope.actions) for scope in body.scopes],
        expires_at=_seconds(body.expires_at),
        description=body.description,
        device=device,
    )
    return _issued(parts, issued)


@router.get("/tokens/{name}")
def get_token(parts: PartsDep, ws: WorkspaceDep, name: str) -> RegistryTokenShape:
    """Describe a named token, without its password."""
    parts.workspaces.get(ws)
    return _shape(parts.credentials.tokens.get(ws, name))


@router.patch("/tokens/{name}")
def set_token_state(parts: PartsDep, ws: WorkspaceDep, name: str, body: TokenState) -> RegistryTokenShape:
    """Switch a named token on or off; off, it is refused at once."""
    parts.workspaces.get(ws)
    return _shape(parts.credentials.tokens.set_enabled(ws, name, body.enabled))


@router.post("/tokens/{name}/regenerate")
def regenerate_token(parts: PartsDep, ws: WorkspaceDep, name: str) -> IssuedRegistryToken:
    """Give a named token another password, shown this once; the one before is refused from now on."""
    parts.workspaces.get(ws)
    return _issued(parts, parts.credentials.tokens.regenerate(ws, name))


@router.delete("/tokens/{name}", status_code=204)
def delete_token(parts: PartsDep, ws: WorkspaceDep, name: str) -> Response:
    """Delete a named token; it is refused at once."""
    parts.workspaces.get(ws)
    parts.credentials.tokens.delete(ws, name)
    return Response(status_code=204)


def _device(parts: Parts, device_id: str) -> tuple[str, str]:
    found = parts.hub.pulls.find(device_id)
    if found is None:
        raise NotFound(f"there is no device {device_id[:140]!r}, or it is disabled")
    return found.device_id, found.generation_id


def _seconds(moment: datetime | None) -> float | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise Invalid("expiresAt has no time zone: end it with Z, as in 2027-01-31T12:00:00Z")
    return moment.timestamp()


def _issued(parts: Parts, issued: IssuedToken) -> IssuedRegistryToken:
    return IssuedRegistryToken(
        login_server=parts.settings.login_server, token=_shape(issued.token), password=issued.password
    )


def _shape(token: NamedToken) -> RegistryTokenShape:
    return RegistryTokenShape(
        name=token.name,
        username=token.username,
        description=token.description,
        scopes=[
            ScopeShape.model_validate({"repositories": scope.repositories, "actions": sorted(scope.actions)})
            for scope in token.scopes
        ],
        enabled=token.is_enabled,
        created_at=datetime.fromtimestamp(token.created_at, UTC),
        expires_at=_moment(token.expires_at),
        used_at=_moment(token.used_at),
        device=token.device or None,
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
