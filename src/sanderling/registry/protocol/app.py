"""The endpoint `/v2/`: finds what a request is for, asks who may, serves or refuses.

    /v2/                                       is it a registry, am I signed in
    /v2/token                                  a token for a password
    /v2/_catalog
    /v2/<name>/blobs/<digest>                  GET HEAD DELETE
    /v2/<name>/blobs/uploads/                  POST
    /v2/<name>/blobs/uploads/<id>              GET PATCH PUT DELETE
    /v2/<name>/manifests/<tag or digest>       GET HEAD PUT DELETE
    /v2/<name>/tags/list
    /v2/<name>/referrers/<digest>

The paths are matched whole, so the app may be mounted at the root or at `/v2`.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sanderling.errors import Denied, SanderlingError
from sanderling.oci import WireError, error_document, is_repository
from sanderling.registry.access.credentials import Authorizer
from sanderling.registry.access.rights import Principal
from sanderling.registry.access.throttle import Slowed
from sanderling.registry.access.tokens import TokenExpired
from sanderling.registry.database import translated
from sanderling.registry.errors import NameInvalid, NotSignedIn
from sanderling.registry.protocol.blob_endpoint import BlobEndpoint
from sanderling.registry.protocol.list_endpoint import ListEndpoint
from sanderling.registry.protocol.manifest_endpoint import ManifestEndpoint
from sanderling.registry.protocol.token_endpoint import WRONG_PASSWORD, TokenEndpoint, basic_credentials, client_of
from sanderling.registry.protocol.upload_endpoint import UploadEndpoint
from sanderling.registry.protocol.wire import Call, error_response
from sanderling.registry.upstream.cache import PullThrough

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[Response]]
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_API_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
# What Docker asks for in its token for an action: who pushes also looks what is there.
_TOKEN_ACTIONS = {"pull": "pull", "list": "pull", "push": "pull,push", "delete": "delete"}
# HEAD is how a client looks before it pushes or deletes. oras for Python keeps the first token that it gets:
# that one must do for what follows. Nobody gets more by it than they have.
_LOOKING_ACTIONS = "pull,push,delete"
# How long the answer to a wrong password is held back, and how many such answers at once.
_HOLD_S = 1.0
_MAX_HELD = 200


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the protocol: for each method, the right it takes (empty: to be signed in) and who serves it."""

    pattern: re.Pattern[str]
    methods: dict[str, tuple[str, Handler]]


async def _greet(call: Call) -> Response:
    return JSONResponse({})


def _routes(blob: BlobEndpoint, upload: UploadEndpoint, manifest: ManifestEndpoint, lists: ListEndpoint) -> list[Route]:
    def route(path: str, **methods: tuple[str, Handler]) -> Route:
        if "GET" in methods:
            methods.setdefault("HEAD", methods["GET"])
        return Route(re.compile(f"/v2{path}", re.DOTALL), methods)

    name, item = "/(?P<name>.+)", "(?P<item>[^/]+)"
    return [
        route("/?", GET=("", _greet)),
        route("/_catalog", GET=("", lists.catalogue)),
        route(f"{name}/blobs/uploads/?", POST=("push", upload.begin)),
        route(
            f"{name}/blobs/uploads/{item}",
            GET=("push", upload.status),
            PATCH=("push", upload.patch),
            PUT=("push", upload.finish),
            DELETE=("push", upload.cancel),
        ),
        route(f"{name}/blobs/{item}", GET=("pull", blob.get), DELETE=("delete", blob.delete)),
        route(
            f"{name}/manifests/{item}",
            GET=("pull", manifest.get),
            PUT=("push", manifest.put),
            DELETE=("delete", manifest.delete),
        ),
        route(f"{name}/tags/list", GET=("list", lists.tags)),
        route(f"{name}/referrers/{item}", GET=("pull", lists.referrers)),
    ]


class RegistryApp:
    """The ASGI application."""

    def __init__(
        self,
        authorizer: Authorizer,
        login_server: str,
        blob: BlobEndpoint,
        upload: UploadEndpoint,
        manifest: ManifestEndpoint,
        lists: ListEndpoint,
        cache: PullThrough,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authorizer, self._login_server, self._cache = authorizer, login_server, cache
        self._token = TokenEndpoint(authorizer, clock)
        self._routes = _routes(blob, upload, manifest, lists)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._serve(request)
        except SanderlingError as e:
            if isinstance(e, Slowed):
                await self._hold(e)
            response = self._refuse(request, e)
        except DBAPIError as e:
            known = translated(e)
            if known is None:
                raise
            log.error("%s %s: %s (%s)", request.method, request.url.path, known.message, e.orig)
            response = self._refuse(request, known)
        response.headers.update(_API_VERSION)
        await response(scope, receive, send)

    async def _serve(self, request: Request) -> Response:
        path = request.scope["path"]
        if path == "/v2/token":
            serve = {"GET": self._token.get, "POST": self._token.post}.get(request.method)
            return await serve(request) if serve else _not_a_method(["GET", "POST"])
        for route in self._routes:
            found = route.pattern.fullmatch(path)
            if found is None:
                continue
            if request.method not in route.methods:
                return _not_a_method(sorted(route.methods))
            action, handler = route.methods[request.method]
            names = found.groupdict()
            name = names.get("name", "")
            if action == "pull":
                name = await self._cache.find_mirrored(name, request.query_params.get("ns", ""))
            principal = await self._permit(request, action, name, path)
            if action == "push":
                await self._cache.check_push(name)
            return await handler(Call(request, principal, name, names.get("item", "")))
        return JSONResponse(error_document(WireError.UNSUPPORTED, "there is no such endpoint"), 404)

    async def _permit(self, request: Request, action: str, name: str, path: str) -> Principal:
        """Return who asks, if they may; raise `NotSignedIn`, `Denied`, `NameInvalid`."""
        scope = ""
        if action and is_repository(name):
            actions = _LOOKING_ACTIONS if request.method == "HEAD" else _TOKEN_ACTIONS[action]
            scope = f"repository:{name}:{actions}"
        if path == "/v2/_catalog":
            scope = "registry:catalog:*"
        principal = await self._authenticate(request, scope)
        if path == "/v2/_catalog" and not principal.sees_catalogue:
            raise NotSignedIn("this token was not asked for the catalogue", scope=scope, wider=True)
        if not action:
            return principal
        if not is_repository(name):
            raise NameInvalid(name)
        is_device = principal.proof is not None and principal.proof.kind == "device"
        if action == "pull" and not principal.may(action, name) and not is_device and await self._cache.is_shared(name):
            return principal
        if not principal.may(action, name):
            message = f"{principal.subject} may not {action} {name}"
            if is_device:
                message += "; a device may pull what its deployment names"
            if principal.could_ask_for(action, name):
                raise NotSignedIn(f"this token may not {action} {name}", scope=scope, wider=True)
            raise Denied(message)
        return principal

    async def _authenticate(self, request: Request, scope: str) -> Principal:
        header = request.headers.get("authorization", "")
        kind, _, rest = header.partition(" ")
        principal: Principal | None = None
        message = "sign in to the registry"
        try:
            if kind.lower() == "bearer":
                message = "the token is not valid"
                principal = await asyncio.to_thread(self._authorizer.verify, rest.strip())
            elif (credentials := basic_credentials(header)) is not None:
                message = WRONG_PASSWORD
                principal = await asyncio.to_thread(self._authorizer.authenticate, *credentials, client_of(request))
            else:
                principal = self._authorizer.anyone()
        except TokenExpired as e:
            message = e.message
        if principal is None:
            raise NotSignedIn(message, scope=scope)
        return principal

    async def _hold(self, slowed: Slowed) -> None:
        """Let who guesses wait; there is a bound on how many wait, not on how fast the others are told."""
        if self._held < _MAX_HELD:
            self._held += 1
            try:
                await asyncio.sleep(min(slowed.retry_after_s, _HOLD_S))
            finally:
                self._held -= 1

    def _refuse(self, request: Request, error: SanderlingError) -> Response:
        headers = {}
        if isinstance(error, NotSignedIn):
            headers["WWW-Authenticate"] = self._challenge(request, error)
        return error_response(error, headers)

    def _challenge(self, request: Request, error: NotSignedIn) -> str:
        """Return where tokens are: at the name that the client reached us by, behind any relay."""
        if request.scope["path"] == "/v2/token":
            return f'Basic realm="{self._login_server}"'
        host = request.headers.get("host", "")
        # A relay that ends TLS says so; it matters to the one who asks alone.
        is_secure = request.headers.get("x-forwarded-proto", "").strip().lower() == "https"
        scheme = "https" if is_secure else request.url.scheme
        base = f"{scheme}://{host if _HOST.fullmatch(host) else self._login_server}"
        challenge = f'Bearer realm="{base}/v2/token",service="{self._login_server}"'
        if error.scope:
            challenge += f',scope="{error.scope}"'
        if error.wider:
            challenge += ',error="insufficient_scope"'
        elif request.headers.get("authorization", "").lower().startswith("bearer "):
            challenge += ',error="invalid_token"'
        return challenge


def _not_a_method(allowed: list[str]) -> Response:
    return JSONResponse(error_document(WireError.UNSUPPORTED), 405, headers={"Allow": ", ".join(allowed)})
