"""Decides where a message goes and keeps it there, before anyone says that it is safe."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from sanderling.edge.gateway.store import UPSTREAM, Outgoing, Store, StoreFull
from sanderling.errors import Invalid
from sanderling.iot import HubConfig, Message, ModuleInput, property_bag

_log = logging.getLogger(__name__)

# A module that holds up the queue by not answering would never answer if its answers were refused too.
_ROOM_FOR_ANSWERS = 1.25
# On its way a message gets a delivery id, or who sent it: with those it must still be one that the next peer takes.
_MAX_PROPERTIES = property_bag.MAX_PROPERTIES - 10
_MAX_BAG_BYTES = 60_000  # of a topic's 65,535


class Router:
    """Routes of the $edgeHub twin over a store. *wake* is called with each endpoint that has something new."""

    def __init__(
        self, store: Store, max_bytes: int, wake: Callable[[str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._default_max_bytes = max_bytes
        self._wake = wake
        self._clock = clock
        self._config: HubConfig | None = None
        self.dropped_without_route = 0

    def configure(self, desired: dict[str, Any]) -> HubConfig:
        """Take new desired properties of $edgeHub; raise `Invalid` and keep the old ones when they are wrong."""
        self._config = HubConfig.parse(desired)
        return self._config

    @property
    def max_bytes(self) -> int:
        """How much the store may hold."""
        configured = self._config.max_store_bytes if self._config else None
        return configured or self._default_max_bytes

    async def accept(self, messages: Sequence[Message]) -> None:
        """Keep each message for each of its sinks; on disk when this returns.

        Raises `StoreFull` when there is no room, and then keeps none of them; also as long as no
        routes have ever come, for nobody knows yet where the messages go.
        """
        if self._config is None and messages:
            raise StoreFull("no routes have come to the edge hub yet; the sender has to wait")
        outgoing = [row for message in messages for row in self._sinks(message)]
        if not outgoing:
            return
        size = sum(row.size_bytes for row in outgoing)
        if self._store.size_bytes + size > self.max_bytes * await self._share(messages):
            raise StoreFull(
                f"the edge hub holds {self._store.size_bytes} bytes of messages and {self.max_bytes} is its limit "
                "(storeLimits.maxSizeBytes); the sender has to wait"
            )
        await self._store.append(outgoing)
        for endpoint in {row.endpoint for row in outgoing}:
            self._wake(endpoint)

    async def _share(self, messages: Sequence[Message]) -> float:
        if self._store.size_bytes < self.max_bytes / 2:
            return 1.0
        for module in {message.module_id for message in messages if message.module_id}:
            if await self._store.count(module):
                return _ROOM_FOR_ANSWERS
        return 1.0

    def _sinks(self, message: Message) -> list[Outgoing]:
        assert self._config is not None
        found: dict[tuple[str, str | None], Outgoing] = {}
        for spec in sorted(self._config.routes, key=lambda spec: spec.priority):
            sink = spec.route.sink
            key = (sink.module_id, sink.input) if isinstance(sink, ModuleInput) else (UPSTREAM, None)
            if key in found or not spec.route.matches(message):
                continue
            ttl_s = spec.ttl_s if spec.ttl_s is not None else self._config.ttl_s
            expires_at = None if ttl_s is None else self._clock() + ttl_s
            found[key] = Outgoing(key[0], key[1], spec.priority, expires_at, message)
        if not found:
            self.dropped_without_route += 1
            _log.debug("a message of %r has no route", message.module_id)
        return list(found.values())


def read_message(device: str, module: str, bag: dict[str, str | None], body: bytes) -> Message:
    """Return what *module* published; raise `Invalid`. Who it is from is ours to say, not the module's."""
    apart = ("$.did", "$.cdid", "$.cmid")
    own = {name: value for name, value in bag.items() if name not in apart}
    message = Message.from_bag(body, own, device_id=device, module_id=module)
    if message.output is not None and not 0 < len(message.output) <= 256:
        raise Invalid("the name of an output has 1 to 256 characters")
    # One that the hub does not take would hold up all that wait behind it, for ever.
    if len(own) > _MAX_PROPERTIES or len(message.encoded_bag()) > _MAX_BAG_BYTES:
        raise Invalid(f"a message has at most {_MAX_PROPERTIES} properties, of {_MAX_BAG_BYTES} bytes when encoded")
    return message
