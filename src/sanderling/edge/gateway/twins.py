"""The twins of this device's modules, answered here and brought in step with the hub later.

What is kept of each: desired as the hub last said, reported as the module last
said. A module that uses its twin has a link of its own to the hub, as itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from sanderling.edge.gateway.endpoint import Connections
from sanderling.edge.gateway.store import Store
from sanderling.edge.link import HubLink
from sanderling.errors import Unavailable
from sanderling.iot import TwinLimits, documents, twin

_log = logging.getLogger(__name__)
_FIRST_SYNC_S = 5.0

Json = dict[str, Any]
LinkFactory = Callable[[str, Callable[[Json], None]], HubLink]


class ModuleTwins:
    """Answers twin requests. Links run in *group*; they are made by *make_link(module, on_desired)*."""

    def __init__(
        self, store: Store, connections: Connections, group: asyncio.TaskGroup, make_link: LinkFactory
    ) -> None:
        self._store = store
        self._connections = connections
        self._group = group
        self._make_link = make_link
        self._links: dict[str, HubLink] = {}
        self._documents: dict[str, Json] = {}
        self._synced: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def stop(self) -> None:
        """End the links."""
        for task in self._tasks:
            task.cancel()

    async def get(self, module_id: str) -> bytes:
        """Return desired and reported; the first time, wait a little for the hub."""
        document = await self._document(module_id)
        if "desired" not in document:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_SYNC_S):
                    await self._synced[module_id].wait()
            document = self._documents[module_id]
        reported = {**document.get("reported", {}), "$version": document.get("version", 1)}
        return documents.compact({"desired": document.get("desired", {"$version": 1}), "reported": reported})

    async def patch_reported(self, module_id: str, body: bytes) -> int:
        """Merge *body* into what the module reports; durable when this returns. Raises `Invalid`."""
        patch = twin.without_ours(documents.parse_object(body, "the patch of reported properties"))
        document = await self._document(module_id)
        reported = twin.merge(document.get("reported", {}), patch)
        twin.check("reported", reported, TwinLimits())
        version: int = document.get("version", 1) + 1
        await self._keep(module_id, {**document, "reported": reported, "version": version})
        self._links[module_id].report(reported)
        return version

    async def _document(self, module_id: str) -> Json:
        if module_id not in self._documents:
            self._documents[module_id] = await self._store.find_twin(module_id) or {}
        if module_id not in self._links:
            self._synced[module_id] = asyncio.Event()
            link = self._make_link(module_id, lambda desired: self._take_desired(module_id, desired))
            self._links[module_id] = link
            reported = self._documents[module_id].get("reported")
            if reported is not None:
                link.report(reported)
            self._tasks.append(self._group.create_task(link.run(), name=f"twin of {module_id}"))
        return self._documents[module_id]

    def _take_desired(self, module_id: str, desired: Json) -> None:
        document = self._documents.get(module_id, {})
        old = document.get("desired")
        self._synced[module_id].set()
        kept = {**document, "desired": desired}
        reported = self._links[module_id].mirror.reported
        if "reported" not in document and reported is not None:
            kept["reported"] = reported
        self._documents[module_id] = kept
        self._group.create_task(self._keep_if_possible(module_id, kept))
        connection = self._connections.by_module.get(module_id)
        if old is not None and connection is not None and old != desired:
            patch = twin.difference(twin.without_ours(old), twin.without_ours(desired))
            version = desired.get("$version", 1)
            connection.publish_desired(version, documents.compact({**patch, "$version": version}))

    async def _keep_if_possible(self, module_id: str, document: Json) -> None:
        """What the hub said comes again with the next connection: a full disk must not end the edge hub."""
        try:
            await self._keep(module_id, document)
        except Unavailable as e:
            _log.warning("the twin of module %r is not kept: %s", module_id, e)

    async def _keep(self, module_id: str, document: Json) -> None:
        self._documents[module_id] = document
        await self._store.set_twin(module_id, document)
