"""The joined parts of one running server, as the API's handlers find them in `app.state.parts`."""

import asyncio
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from sanderling.blobs import FileBlobs, open_store
from sanderling.hub import ALL_RIGHTS, Hub
from sanderling.image import GateSettings, ImageBuilds, Limits, PushTarget, SigningKeys
from sanderling.oci import Digest, Platform
from sanderling.registry import Registry, RegistryCredentials, Scope, StoredUpstreams
from sanderling.server.access import Access, AttemptLimit, Unauthenticated
from sanderling.server.collections import Collections
from sanderling.server.images import ImageCheck
from sanderling.server.registry_access import ApiTokens, HubDevices
from sanderling.server.seal import Seal
from sanderling.server.settings import ServerSettings
from sanderling.server.tls import TlsFiles, utc_now
from sanderling.workspace import Workspaces

UNUSED_LIFE = timedelta(days=1)
PUSH_TIME_S = 300


@dataclass(slots=True)
class Parts:
    """What a server is made of. Built once, by `join`; nothing here is replaced while it runs."""

    settings: ServerSettings
    tls: TlsFiles
    engine: Engine
    access: Access
    sign_in_limit: AttemptLimit
    workspace_blobs: FileBlobs
    workspaces: Workspaces
    credentials: RegistryCredentials
    registry: Registry
    upstreams: StoredUpstreams
    builds: ImageBuilds
    signing_keys: SigningKeys
    hub: Hub
    collections: Collections
    platform: str
    started_at: datetime
    # Set when the server is told to stop: whoever waits for news (long polls) answers at once.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    # Held while an image takes models, and while one is deleted: two stages, which share no transaction.
    models_in_use: threading.Lock = field(default_factory=threading.Lock)

    @property
    def owner_token_file(self) -> Path:
        return self.settings.data / "secrets" / "owner-token"

    def close(self) -> None:
        """End builds, store what waits, and let the database go. Blocks."""
        self.builds.close()
        self.hub.close()
        self.engine.dispose()


def join(settings: ServerSettings, tls: TlsFiles, engine: Engine) -> Parts:
    """Make every stage over *engine* and the data folder, and join them. Blocks: it reads the disk."""
    data = settings.data
    # First, for it may not be to be had.
    registry_blobs = open_store(settings.registry_place, temporary=data / "temporary")
    access = Access(engine, utc_now)
    access.ensure_owner_token(data / "secrets" / "owner-token")
    seal = Seal(data / "secrets" / "seal.key")
    workspace_blobs = FileBlobs(data / "blobs" / "workspace")
    # Nobody else holds the folder, and these uploads live as long as their request: what is left was cut off.
    workspace_blobs.remove_stale(before=utc_now().timestamp())
    workspaces = Workspaces(engine, workspace_blobs, utc_now)
    api_tokens, devices = ApiTokens(access), HubDevices(settings.login_server)
    credentials = RegistryCredentials(
        engine, seal.seal, seal.unseal, bearer=api_tokens.find, recall=api_tokens.recall, devices=devices
    )
    upstreams = StoredUpstreams(engine, seal.seal, seal.unseal)
    registry = Registry(
        engine,
        registry_blobs,
        credentials,
        settings.login_server,
        in_use=lambda: hub.images(),  # the hub is made below, and asks the registry too
        upstreams=upstreams,
    )
    signing_keys = SigningKeys(engine, seal.seal, seal.unseal)
    builds = _make_builds(settings, tls, engine, credentials, signing_keys)
    workspaces.remove_unused(_awaited(builds, workspaces, workspace_blobs), utc_now() - UNUSED_LIFE)
    hub = Hub(
        engine,
        ImageCheck(registry, settings.login_server),
        _hub_bearer(access),
        device_deleted=credentials.tokens.delete_of_device,
    )
    devices.ask(hub.pulls)
    return Parts(
        settings=settings,
        tls=tls,
        engine=engine,
        access=access,
        sign_in_limit=AttemptLimit(utc_now),
        workspace_blobs=workspace_blobs,
        workspaces=workspaces,
        credentials=credentials,
        registry=registry,
        upstreams=upstreams,
        builds=builds,
        signing_keys=signing_keys,
        hub=hub,
        collections=Collections(registry.collect_garbage),
        platform=str(Platform.parse(f"linux/{platform.machine()}")),
        started_at=utc_now(),
    )


def _make_builds(
    settings: ServerSettings, tls: TlsFiles, engine: Engine, credentials: RegistryCredentials, keys: SigningKeys
) -> ImageBuilds:
    # The worker reaches the registry at the server's own address: the public one may lead through a relay.
    own = settings.own_url.removeprefix("https://")
    target = PushTarget(own, ca=tls.ca.absolute(), shown_as=settings.login_server)

    def push(workspace: str) -> PushTarget:
        scope = Scope.of(f"{workspace}/*", "pull", "push")
        # A build gets its token when it begins and pushes at its end.
        life_s = settings.build_time_limit_s + PUSH_TIME_S
        return replace(target, token=credentials.issue("build", [scope], life_s))

    return ImageBuilds(
        engine,
        settings.data / "builds",
        settings.data / "cache",
        push,
        signing_key=keys.private_pem,
        workers=settings.build_workers,
        time_limit_s=settings.build_time_limit_s,
        memory_bytes=settings.build_memory_bytes,
        gate=GateSettings(Limits(settings.gate_time_limit_s, settings.gate_memory_bytes), settings.is_gate_required),
        debian_mirror=settings.debian_mirror,
        debian_security_mirror=settings.debian_security_mirror,
    )


def _awaited(builds: ImageBuilds, workspaces: Workspaces, blobs: FileBlobs) -> set[Digest]:
    """Return the content that builds which have not ended still need."""
    unfinished = (b for info in workspaces.list_all() for b in builds.list(info.name) if not b.is_finished)
    return {digest for build in unfinished for digest in _digests(build.recipe, str(blobs.root))}


def _digests(value: object, root: str) -> Iterator[Digest]:
    """Yield the digest of every blob below *root* whose path is somewhere in *value*."""
    if isinstance(value, str) and value.startswith(root):
        path = Path(value)
        yield Digest.parse(f"{path.parent.parent.name}:{path.name}")
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _digests(inner, root)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _digests(inner, root)


def _hub_bearer(access: Access) -> Callable[[str], frozenset[str] | None]:
    """Let the owner's tokens in at the hub. Devices belong to no workspace: a workspace's token has no rights there."""

    def find(token: str) -> frozenset[str] | None:
        try:
            caller = access.authenticate(token)
        except Unauthenticated:
            return None
        return ALL_RIGHTS if caller.is_owner else frozenset()

    return find
