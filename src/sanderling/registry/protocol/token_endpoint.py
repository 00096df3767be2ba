"""Tokens for passwords: Docker's token server (GET) and its OAuth 2 form (POST).

    GET  Basic, scope*, offline_token=true
    POST grant_type=password, username, password, scope, access_type=offline
    POST grant_type=refresh_token, refresh_token, scope

A token never allows more than the password. A refresh token (`offline`) has no end of
its own: it ends with the credential that it was got with. Other parameters
(`service`, `client_id`, `account`) change nothing: one server, one kind of token.
Source: "Token Authentication Specification" and "OAuth2 Token Authentication"
of the distribution project.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sanderling.errors import Invalid
from sanderling.registry.access.credentials import Authorizer
from sanderling.registry.access.rights import Principal, parse_wanted
from sanderling.registry.access.tokens import TokenExpired
from sanderling.registry.errors import NotSignedIn
from sanderling.registry.protocol.wire import read_body

TOKEN_TTL_S = 300
REFRESH_TTL_S = 366 * 86400
# What a refresh token may rest on. A device signs anew instead.
_LASTING = frozenset({"admin", "token", "server"})
_MAX_FORM = 65536
_MAX_FIELDS = 100
WRONG_PASSWORD = "the user name or the password is wrong, has expired or is switched off"


def client_of(request: Request) -> str:
    """Return the address the request came from."""
    return request.client.host if request.client is not None else ""


def basic_credentials(header: str) -> tuple[str, str] | None:
    """Read `Basic` credentials (RFC 7617), or return None."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


class TokenEndpoint:
    """Exchanges a password for a token."""

    def __init__(self, authorizer: Authorizer, clock: Callable[[], float]) -> None:
        self._authorizer, self._clock = authorizer, clock

    async def get(self, request: Request) -> Response:
        """Answer GET with Basic credentials and `scope` parameters."""
        credentials = basic_credentials(request.headers.get("authorization", ""))
        if credentials is None:
            raise NotSignedIn("there are no tokens for strangers: sign in with a user name and a password")
        query = request.query_params
        is_offline = query.get("offline_token", "").lower() in ("true", "1")
        return await self._answer(request, *credentials, query.getlist("scope"), is_offline=is_offline)

    async def post(self, request: Request) -> Response:
        """Answer POST with a form: grant_type password, or refresh_token with a token that was issued."""
        body = await read_body(request, _MAX_FORM)
        try:
            form = parse_qs(body.decode("utf-8"), max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise Invalid(f"the form is not UTF-8, or has more than {_MAX_FIELDS} fields") from None

        def field(name: str) -> str:
            return form.get(name, [""])[0]

        if field("grant_type") == "password":
            user, password = field("username"), field("password")
        elif field("grant_type") == "refresh_token":
            user, password = "token", field("refresh_token")
        else:
            raise Invalid("grant_type is password or refresh_token")
        is_offline = field("access_type") == "offline"
        return await self._answer(request, user, password, form.get("scope", []), is_offline=is_offline)

    async def _answer(
        self, request: Request, user: str, password: str, scopes: list[str], *, is_offline: bool
    ) -> Response:
        wanted, catalogue = parse_wanted(scopes)
        try:
            principal = await asyncio.to_thread(self._authorizer.authenticate, user, password, client_of(request))
        except TokenExpired as e:
            raise NotSignedIn(e.message) from None
        if principal is None:
            raise NotSignedIn(WRONG_PASSWORD)
        narrowed = principal.narrowed(wanted, catalogue=catalogue)
        token = await asyncio.to_thread(self._authorizer.grant, narrowed, TOKEN_TTL_S)
        now = self._clock()
        ends_at = now + TOKEN_TTL_S if principal.expires_at is None else min(principal.expires_at, now + TOKEN_TTL_S)
        document = {
            "token": token,
            "access_token": token,
            "expires_in": max(1, int(ends_at - now)),
            "issued_at": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "scope": _words(narrowed),
        }
        if is_offline and principal.proof is not None and principal.proof.kind in _LASTING:
            refresh = await asyncio.to_thread(self._authorizer.grant, principal, REFRESH_TTL_S)
            document["refresh_token"] = refresh
        return JSONResponse(document, headers={"Cache-Control": "no-store"})


def _words(principal: Principal) -> str:
    return " ".join(
        f"repository:{scope.repositories}:{','.join(sorted(scope.actions))}"
        for scope in principal.scopes
        if scope.actions != {"list"}
    )
