"""What a registry does for itself, beside the requests."""

import asyncio
import logging
import time
from contextlib import suppress

from sanderling.registry import CollectionRuns, Registry
from sanderling.server.collections import Collections

log = logging.getLogger(__name__)

STALE_UPLOAD_S = 24 * 3600
COLLECT_EVERY_S = 24 * 3600.0
HOUSEKEEPING_S = 3600


async def keep_house(
    registry: Registry, collections: Collections, stopping: asyncio.Event, collect_every_s: float = COLLECT_EVERY_S
) -> None:
    """End uploads to *registry* that nobody goes on with, every hour, and collect its garbage, until *stopping*."""
    next_at = time.monotonic() + HOUSEKEEPING_S
    while not stopping.is_set():
        try:
            await registry.end_stale_uploads(STALE_UPLOAD_S)
        except Exception:  # one failure must not end the server
            log.exception("stale uploads could not be ended; tried again in an hour")
        if time.monotonic() >= next_at:
            next_at += collect_every_s
            with suppress(CollectionRuns):
                collections.begin(dry_run=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(HOUSEKEEPING_S):
                await stopping.wait()
