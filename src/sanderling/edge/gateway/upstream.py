"""Brings the queue `$upstream` to the hub: in order, a window at a time, each once.

A row is deleted only when the hub has acknowledged it. The delivery id is the
row's own, so a message that was sent twice over a cut link is stored once.
"""

from sanderling.edge.gateway.store import UPSTREAM, Store
from sanderling.edge.link import HubLink
from sanderling.iot import topics

_WINDOW = 100


class UpstreamPump:
    """Feeds one `HubLink` from a store."""

    def __init__(self, store: Store, device_id: str) -> None:
        self._store = store
        self._device_id = device_id
        self._under_way: dict[int, int] = {}  # packet id -> row
        self._arrived: list[int] = []
        self.sent = 0

    def acknowledged(self, packet_id: int) -> None:
        """Note that the hub has a message."""
        row = self._under_way.pop(packet_id, None)
        if row is not None:
            self._arrived.append(row)
            self.sent += 1

    async def pump(self, link: HubLink) -> None:
        """Delete what has arrived, send what waits."""
        if self._arrived:
            arrived, self._arrived = self._arrived, []
            await self._store.delete(arrived)
        room = _WINDOW - len(self._under_way)
        if room < _WINDOW // 4 and self._under_way:
            return
        # What has arrived since the deletion is still in the store, and must not be sent again.
        sent = [*self._under_way.values(), *self._arrived]
        for stored in await self._store.take(UPSTREAM, sent, room):
            message = stored.message
            topic = topics.events_topic(self._device_id, message.module_id, message.encoded_bag())
            self._under_way[link.publish(topic, message.body)] = stored.id
