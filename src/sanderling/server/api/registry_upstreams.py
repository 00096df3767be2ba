"""The upstreams of the registry: other registries that are pulled through and kept. The owner's alone."""

from fastapi import APIRouter, Response
from pydantic import Field

from sanderling.errors import Conflict
from sanderling.registry import Upstream
from sanderling.registry.upstream.rules import DEFAULT_TTL_S
from sanderling.server.api.depends import OwnerDep, PartsDep, Shape
from sanderling.server.parts import Parts

router = APIRouter(prefix="/registry/upstreams", tags=["registry"])


class NewUpstream(Shape):
    """username and password sign in there, both or neither; caPem is the only authority to trust there."""

    name: str
    registry: str
    username: str = ""
    password: str = ""
    ttl_seconds: float = DEFAULT_TTL_S
    plain_http: bool = False
    ca_pem: str = ""
    mirror: bool = False
    shared: bool = False
    only: list[str] = Field(default_factory=list)


class UpstreamShape(Shape):
    """hasPassword stands for the password, which is never shown; trouble is why the upstream is left alone just now."""

    name: str
    registry: str
    username: str
    has_password: bool
    ttl_seconds: float
    plain_http: bool
    has_ca: bool
    enabled: bool
    mirror: bool
    shared: bool
    only: list[str]
    trouble: str


class UpstreamList(Shape):
    upstreams: list[UpstreamShape]


class UpstreamState(Shape):
    enabled: bool


@router.get("")
def list_upstreams(parts: PartsDep, _: OwnerDep) -> UpstreamList:
    """List the upstreams by name. Only the owner may."""
    return UpstreamList(upstreams=[_shape(parts, upstream) for upstream in parts.upstreams.all()])


@router.post("", status_code=201)
def add_upstream(parts: PartsDep, _: OwnerDep, body: NewUpstream) -> UpstreamShape:
    """Pull through another registry: its repositories appear here below the upstream's name. Only the owner may."""
    upstream = Upstream(
        name=body.name,
        registry=body.registry,
        username=body.username,
        password=body.password,
        ttl_s=body.ttl_seconds,
        is_plain_http=body.plain_http,
        ca_pem=body.ca_pem,
        is_mirror=body.mirror,
        is_shared=body.shared,
        only=tuple(body.only),
    )
    for workspace in parts.workspaces.list_all():
        if upstream.takes(workspace.name):
            raise Conflict(
                f"a workspace is named {workspace.name!r}, and pushes to its repositories: choose another name, "
                f"such as {workspace.name}/hub"
            )
    return _shape(parts, parts.upstreams.add(upstream))


@router.get("/{name:path}")
def get_upstream(parts: PartsDep, _: OwnerDep, name: str) -> UpstreamShape:
    """Describe one upstream. Only the owner may."""
    return _shape(parts, parts.upstreams.get(name))


@router.patch("/{name:path}")
def set_upstream(parts: PartsDep, _: OwnerDep, name: str, body: UpstreamState) -> UpstreamShape:
    """Switch an upstream on or off; off, what is here is served. Only the owner may."""
    return _shape(parts, parts.upstreams.set_enabled(name, body.enabled))


@router.delete("/{name:path}", status_code=204)
def remove_upstream(parts: PartsDep, _: OwnerDep, name: str) -> Response:
    """Forget an upstream and its password; what was pulled through stays. Only the owner may."""
    parts.upstreams.remove(name)
    return Response(status_code=204)


def _shape(parts: Parts, upstream: Upstream) -> UpstreamShape:
    return UpstreamShape(
        name=upstream.name,
        registry=upstream.registry,
        username=upstream.username,
        has_password=bool(upstream.password),
        ttl_seconds=upstream.ttl_s,
        plain_http=upstream.is_plain_http,
        has_ca=bool(upstream.ca_pem),
        enabled=upstream.is_enabled,
        mirror=upstream.is_mirror,
        shared=upstream.is_shared,
        only=list(upstream.only),
        trouble=parts.registry.find_upstream_trouble(upstream.name),
    )
