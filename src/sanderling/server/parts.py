"""The joined parts of one running server, as the API's handlers find them in `app.state.parts`."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from sanderling.blobs import FileBlobs
from sanderling.server.access import Access, AttemptLimit
from sanderling.server.seal import Seal
from sanderling.server.settings import ServerSettings
from sanderling.server.tls import TlsFiles, utc_now
from sanderling.workspace import Workspaces


@dataclass(slots=True)
class Parts:
    """What a server is made of. Built once, by `join`; nothing here is replaced while it runs."""

    settings: ServerSettings
    tls: TlsFiles
    engine: Engine
    access: Access
    sign_in_limit: AttemptLimit
    seal: Seal
    workspace_blobs: FileBlobs
    workspaces: Workspaces
    started_at: datetime
    # Set when the server is told to stop: whoever waits for news (long polls) answers at once.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def owner_token_file(self) -> Path:
        return self.settings.data / "secrets" / "owner-token"


def join(settings: ServerSettings, tls: TlsFiles, engine: Engine) -> Parts:
    """Make every stage over *engine* and the data folder. Blocks: it reads the disk."""
    secrets_folder = settings.data / "secrets"
    access = Access(engine, utc_now)
    access.ensure_owner_token(secrets_folder / "owner-token")
    workspace_blobs = FileBlobs(settings.data / "blobs" / "workspace")
    # Nobody else holds the folder, and these uploads live as long as their request: what is left was cut off.
    workspace_blobs.remove_stale(before=utc_now().timestamp())
    return Parts(
        settings=settings,
        tls=tls,
        engine=engine,
        access=access,
        sign_in_limit=AttemptLimit(utc_now),
        seal=Seal(secrets_folder / "seal.key"),
        workspace_blobs=workspace_blobs,
        workspaces=Workspaces(engine, workspace_blobs, utc_now),
        started_at=utc_now(),
    )
