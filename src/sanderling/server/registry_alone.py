"""The registry and nothing else: what `sanderling registry serve` runs.

    ROOT/lock                    held by the one server of this folder
    ROOT/registry.db             repositories, manifests, tags
    ROOT/blobs/                  layers, unless they are kept elsewhere (--blobs)
    ROOT/secrets/admin-password  made at the first start; delete it, and the next start makes another
    ROOT/secrets/seal.key        what is secret in registry.db is sealed with it
    ROOT/tls/                    our own certificate authority

The HTTP server, its bounds, its start and its stop are those of `sanderling up`.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sanderling.blobs import StorePlace, open_store
from sanderling.durable import ensure_private_folder, write_durably
from sanderling.errors import Invalid
from sanderling.registry import (
    Authorizer,
    FixedUpstreams,
    Principal,
    Proof,
    Registry,
    RegistryCredentials,
    parse_upstream,
    read_upstreams,
)
from sanderling.registry import Scope as Rights
from sanderling.server.collections import Collections
from sanderling.server.database import REGISTRY_DATABASE, DataFolder, open_database
from sanderling.server.front import Front, SafeHeaders
from sanderling.server.housekeeping import keep_house
from sanderling.server.http_server import (
    HttpServer,
    allow_many_connections,
    hold,
    make_http_server,
    port_of,
    stop_on_signals,
    use_own_threads,
)
from sanderling.server.seal import Seal
from sanderling.server.settings import ServerSettings
from sanderling.server.tls import TlsFiles, ensure_tls, utc_now

log = logging.getLogger(__name__)

DEFAULT_PORT = 5000
ADMIN = "admin"
LOOPBACK = "localhost"
EVERYTHING = (Rights.of("*", "pull", "push", "delete", "list"),)
MAX_PASSWORD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What `sanderling registry serve` decides; a port of 0 is chosen by the system at start.

    host: the address to listen on; None is all of them, and with `is_open` this machine alone.
    host_names: further names for the certificate; the first is what clients are told.
    public_url: `https://name[:port]` as clients see it, when a proxy stands before it.
    is_open: everybody may do everything.
    is_plain: HTTP, without TLS.
    upstreams, upstreams_file: registries that are pulled through, as `hub=docker.io` and in a TOML file
        (`sanderling.registry.upstream.configured`).
    blobs: where layers are kept; None is ROOT/blobs.
    """

    root: Path
    host: str | None = None
    port: int = DEFAULT_PORT
    host_names: tuple[str, ...] = ()
    public_url: str | None = None
    is_open: bool = False
    is_plain: bool = False
    upstreams: tuple[str, ...] = ()
    upstreams_file: Path | None = None
    blobs: StorePlace | None = None

    @property
    def listens_on(self) -> str | None:
        """Where it listens. What is open to everybody is reached from elsewhere only when that was said."""
        return LOOPBACK if self.is_open and self.host is None else self.host

    @property
    def place(self) -> StorePlace:
        """Where layers are kept."""
        return self.blobs or StorePlace(str(self.root / "blobs"))

    @property
    def is_local(self) -> bool:
        """Whether it can be reached from this machine alone."""
        if self.listens_on in (None, ""):
            return False
        try:
            return ipaddress.ip_address(str(self.listens_on)).is_loopback
        except ValueError:
            return self.listens_on == LOOPBACK

    def addresses(self, port: int) -> ServerSettings:
        """Return the names and addresses that follow when *port* was bound; raise `Invalid` for what cannot be."""
        return ServerSettings(
            data=self.root,
            host=self.listens_on,
            port=port,
            mqtt_port=0,
            host_names=self.host_names,
            public_url=self.public_url,
        )


@dataclass(frozen=True, slots=True)
class RegistryInfo:
    """A registry that answers. `ca` is None over plain HTTP, `password_file` None when nobody must sign in."""

    url: str
    login_server: str
    ca: Path | None
    password_file: Path | None
    root: Path


class OpenToAll:
    """The `Authorizer` of `--no-auth`: everybody may do everything, with any name and password or none."""

    def anyone(self) -> Principal:
        """See `Authorizer.anyone`."""
        return Principal("anyone", EVERYTHING)

    def authenticate(self, user: str, password: str, client: str = "") -> Principal:
        """See `Authorizer.authenticate`."""
        return self.anyone()

    def verify(self, token: str) -> Principal:
        """See `Authorizer.verify`."""
        return self.anyone()

    def grant(self, principal: Principal, ttl_s: float) -> str:
        """See `Authorizer.grant`."""
        return "anyone"


def run_registry(settings: RegistrySettings, ready: Callable[[RegistryInfo], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT (when called in the main thread), then return.

    *ready* is called once, in a thread, when the registry answers. A second signal stops without grace.
    Raises Conflict when the folder or the port is in use, Invalid when the folder cannot be used;
    nothing was changed then.
    """
    settings = replace(settings, root=settings.root.absolute())
    settings.addresses(settings.port)
    upstreams = _upstreams(settings)
    allow_many_connections()
    folder = DataFolder(settings.root, REGISTRY_DATABASE, "--root")
    with ExitStack() as stack:
        (sockets,) = hold(stack, folder, (settings.listens_on, settings.port, "--port"))
        addresses = settings.addresses(port_of(sockets))
        ensure_private_folder(settings.root / "secrets")
        tls = None
        if not settings.is_plain:
            tls = ensure_tls(settings.root / "tls", addresses.certificate_names(), utc_now())
        engine = open_database(settings.root / REGISTRY_DATABASE)
        stack.callback(engine.dispose)
        registry = _join(settings, addresses.login_server, engine, upstreams)
        info = _info(settings, addresses.login_server, tls)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(registry, tls, sockets, info, ready))


def create_registry_app(registry: Registry) -> ASGIApp:
    """Return the application: `/v2/` is *registry*, `/healthz` says that it answers."""
    return SafeHeaders(Front({"/healthz": _healthy}, registry.app()))


async def _healthy(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"status": "ok"})(scope, receive, send)


def _upstreams(settings: RegistrySettings) -> FixedUpstreams:
    given = [parse_upstream(text) for text in settings.upstreams]
    return FixedUpstreams([*given, *(read_upstreams(settings.upstreams_file) if settings.upstreams_file else ())])


def _join(settings: RegistrySettings, login_server: str, engine: Engine, upstreams: FixedUpstreams) -> Registry:
    # First, for it may not be to be had.
    blobs = open_store(settings.place, temporary=settings.root / "temporary")
    try:
        return Registry(engine, blobs, _authorizer(settings, engine), login_server, upstreams=upstreams)
    except DatabaseError as e:
        file = settings.root / REGISTRY_DATABASE
        raise Invalid(f"the database {file} cannot be used ({e.orig}): restore it from a backup") from e


def _authorizer(settings: RegistrySettings, engine: Engine) -> Authorizer:
    if settings.is_open:
        return OpenToAll()
    password = ensure_admin_password(password_file(settings.root)).encode()
    # What is got with this password ends when another one takes its place.
    mark = hashlib.sha256(password).hexdigest()
    admin = Principal(ADMIN, EVERYTHING, proof=Proof("server", mark, ""))

    def sign_in(user: str, given: str) -> Principal | None:
        fits = hmac.compare_digest(given.encode(), password)
        return admin if fits and user == ADMIN else None

    def recall(name: str) -> Principal | None:
        return admin if name == mark else None

    seal = Seal(settings.root / "secrets" / "seal.key")
    return RegistryCredentials(engine, seal.seal, seal.unseal, sign_in=sign_in, recall=recall)


def password_file(root: Path) -> Path:
    """Return where the admin user's password is."""
    return root / "secrets" / "admin-password"


def ensure_admin_password(file: Path) -> str:
    """Return the password in *file*; make one, for its owner alone, when it is missing. Invalid when it is empty."""
    if not file.exists():
        write_durably(file, secrets.token_urlsafe(32).encode() + b"\n", 0o600)
    with file.open("rb") as opened:
        password = opened.read(MAX_PASSWORD_BYTES + 1).strip()
    if not 0 < len(password) <= MAX_PASSWORD_BYTES:
        raise Invalid(f"{file} holds no password: write one into it, or delete it, and the next start makes one")
    try:
        return password.decode()
    except UnicodeDecodeError as e:
        raise Invalid(f"{file} is not text: write a password into it, or delete it") from e


def _info(settings: RegistrySettings, login_server: str, tls: TlsFiles | None) -> RegistryInfo:
    scheme = "http" if tls is None and settings.public_url is None else "https"
    return RegistryInfo(
        url=f"{scheme}://{login_server}",
        login_server=login_server,
        ca=None if tls is None else tls.ca,
        password_file=None if settings.is_open else password_file(settings.root),
        root=settings.root,
    )


async def _serve(
    registry: Registry,
    tls: TlsFiles | None,
    sockets: list[socket.socket],
    info: RegistryInfo,
    ready: Callable[[RegistryInfo], None] | None,
) -> None:
    server = make_http_server(create_registry_app(registry), None if tls is None else tls.server_context())
    stopping, collections = asyncio.Event(), Collections(registry.collect_garbage)
    stop_on_signals(server, stopping)
    use_own_threads()
    async with asyncio.TaskGroup() as group:
        group.create_task(_announce(server, info, ready))
        group.create_task(keep_house(registry, collections, stopping))
        group.create_task(collections.run(stopping))
        await server.serve(sockets)
        stopping.set()
        await registry.close()


async def _announce(server: HttpServer, info: RegistryInfo, ready: Callable[[RegistryInfo], None] | None) -> None:
    if await server.is_up() and ready is not None:
        await asyncio.to_thread(ready, info)
