"""Who is connected to this hub right now, and how to reach them from any thread.

Rules: one connection for each identity, the newest wins; a connection is used on its own event loop only, so calls
from elsewhere are handed over to it.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from sanderling.hub.twins import DesiredChange
from sanderling.iot.identity import client_id

_TAKEOVER_WINDOW_S = 60.0


class Client(Protocol):
    """A connected device or module, as the rest of the hub sees it. To be called on its *loop* only."""

    device_id: str
    module_id: str | None
    loop: asyncio.AbstractEventLoop

    @property
    def takes_methods(self) -> bool:
        """Whether the client listens to direct methods."""

    def send_desired(self, change: DesiredChange) -> None:
        """Tell the client of new desired properties."""

    async def invoke(self, name: str, payload: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Invoke a direct method; return the client's status and payload. Raises MethodTimeout, DeviceNotOnline."""

    def drop(self, reason: str) -> None:
        """Close the connection."""


class Connections:
    """All connected clients. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clients: dict[str, Client] = {}
        self._takeovers: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        self._clock = clock
        self.takeovers_total = 0

    def add(self, client: Client) -> int:
        """Take *client* in and drop its predecessor; return how many were taken over in the last minute."""
        key = client_id(client.device_id, client.module_id)
        with self._lock:
            before = self._clients.get(key)
            self._clients[key] = client
            recent = self._recent_takeovers(key, is_new=before is not None)
        if before is not None:
            _hand_over(before, lambda: before.drop("the same identity connected anew"))
        return recent

    def remove(self, client: Client) -> bool:
        """Forget *client*; return False when a newer connection has its place."""
        key = client_id(client.device_id, client.module_id)
        with self._lock:
            if self._clients.get(key) is not client:
                return False
            del self._clients[key]
            return True

    def find(self, device_id: str, module_id: str | None = None) -> Client | None:
        """Return the connected client, or None."""
        return self._clients.get(client_id(device_id, module_id))

    def is_connected(self, device_id: str, module_id: str | None = None) -> bool:
        """Whether the identity is connected. An edge device is, when its runtime is."""
        if self.find(device_id, module_id) is not None:
            return True
        return module_id is None and any(self.find(device_id, name) for name in ("$edgeHub", "$edgeAgent"))

    def count(self) -> int:
        """How many devices and modules are connected."""
        return len(self._clients)

    def send_desired(self, change: DesiredChange) -> None:
        """Tell the client of new desired properties, if it is connected."""
        client = self.find(change.device_id, change.module_id)
        if client is not None:
            _hand_over(client, lambda: client.send_desired(change))

    def drop(self, device_id: str, module_id: str | None, reason: str) -> None:
        """Close the connection of a module, or those of a device and all its modules."""
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            if client.device_id == device_id and module_id in (None, client.module_id):
                _drop(client, reason)

    def _recent_takeovers(self, key: str, *, is_new: bool) -> int:
        times = self._takeovers.setdefault(key, deque(maxlen=1000))
        now = self._clock()
        if is_new:
            times.append(now)
            self.takeovers_total += 1
        while times and times[0] < now - _TAKEOVER_WINDOW_S:
            times.popleft()
        if not times:
            del self._takeovers[key]
        return len(times)


def _drop(client: Client, reason: str) -> None:
    _hand_over(client, lambda: client.drop(reason))


def _hand_over(client: Client, call: Callable[[], None]) -> None:
    if not client.loop.is_closed():
        client.loop.call_soon_threadsafe(call)
