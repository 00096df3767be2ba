"""What a registry does for itself, beside the requests."""

import asyncio
import logging
from contextlib import suppress

from sanderling.registry import Registry

log = logging.getLogger(__name__)

STALE_UPLOAD_S = 24 * 3600
EVERY_S = 3600


async def keep_house(registry: Registry, stopping: asyncio.Event) -> None:
    """End uploads to *registry* that nobody goes on with, every hour, until *stopping*."""
    while not stopping.is_set():
        try:
            await registry.end_stale_uploads(STALE_UPLOAD_S)
        except Exception:  # one failure must not end the server
            log.exception("stale uploads could not be ended; tried again in an hour")
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await stopping.wait()
