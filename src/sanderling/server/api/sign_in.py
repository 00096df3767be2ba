"""Who am I, signing in with a one-time code, and signing out."""

from datetime import datetime

from fastapi import APIRouter, Request

from sanderling.errors import Denied
from sanderling.server.access import Caller, Unauthenticated
from sanderling.server.api.depends import CallerDep, PartsDep, Shape, TokenDep

router = APIRouter(tags=["sign-in"])


class Code(Shape):
    code: str


class Session(Shape):
    token: str
    expires_at: datetime


class Link(Shape):
    url: str
    expires_at: datetime


class Me(Shape):
    """role: owner | workspace. workspace: the one this token is for, null for the owner."""

    role: str
    workspace: str | None
    kind: str
    expires_at: datetime | None


@router.post("/sign-in")
def sign_in(parts: PartsDep, request: Request, body: Code) -> Session:
    """Use up a one-time code and get a session's token. Needs no token; failures are slowed by address."""
    address = request.client.host if request.client is not None else ""
    # The portal asks from this machine for all its users: one who guesses must not lock out the others.
    is_slowed = address not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    if is_slowed:
        parts.sign_in_limit.check(address)
    try:
        granted = parts.access.sign_in(body.code)
    except Unauthenticated:
        if is_slowed:
            parts.sign_in_limit.failed(address)
        raise
    assert granted.expires_at is not None
    return Session(token=granted.secret, expires_at=granted.expires_at)


@router.post("/sign-in-links", status_code=201)
def create_sign_in_link(parts: PartsDep, caller: CallerDep) -> Link:
    """Make a link that signs in once, within 15 minutes, with the rights of the caller. A session may not.

    The code stands in the fragment, which a browser does not send: no log and no proxy sees it.
    """
    if caller.kind == "session":
        # Else whoever once held a session's token would renew it for ever, past its end and its sign-out.
        raise Denied("a session makes no further sessions; use the owner's or the workspace's token")
    granted = parts.access.create_sign_in_code(caller)
    assert granted.expires_at is not None
    return Link(url=f"{parts.settings.url}/sign-in#{granted.secret}", expires_at=granted.expires_at)


@router.get("/me")
def me(caller: CallerDep) -> Me:
    """Tell what the token of this request may do."""
    return describe(caller)


@router.post("/sign-out", status_code=204)
def sign_out(parts: PartsDep, caller: CallerDep, token: TokenDep) -> None:
    """End the session of this request. A token that is not a session's stays."""
    if caller.kind == "session":
        parts.access.revoke(token)


def describe(caller: Caller) -> Me:
    role = "owner" if caller.is_owner else "workspace"
    return Me(role=role, workspace=caller.workspace, kind=caller.kind, expires_at=caller.expires_at)
