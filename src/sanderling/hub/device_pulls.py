"""What a registry needs to know of a device: is it who it says, and which images it is to run.

Nothing is kept here: every answer is read from the database at that moment, so that a device
that was disabled or deleted, or whose keys changed, is known to be so at once.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, select

from sanderling.errors import Denied
from sanderling.hub import tables
from sanderling.hub.identities import Identity, find_in
from sanderling.iot import sas
from sanderling.iot.identity import EDGE_AGENT, is_valid_id

# Whose keys an unknown device's signature is compared with, so that it costs what a known one's does.
_NO_KEYS = ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",) * 2


@dataclass(frozen=True, slots=True)
class PullingDevice:
    """An enabled device. `mark` changes with its keys; `images` are those of its deployment.

    `expires_at` (seconds since 1970) is the end of the signature it showed, if it showed one.
    """

    device_id: str
    generation_id: str
    mark: str = field(repr=False)
    images: frozenset[str]
    expires_at: int | None = None


class DevicePulls:
    """Answers about devices. Methods block."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def sign_in(self, device_id: str, signature: str) -> PullingDevice | None:
        """Return the device when *signature* is its own: a token for `{hub}/devices/{device_id}`; else None."""
        try:
            token = sas.parse(signature)
        except Denied:
            return None
        device = self._find_enabled(device_id)
        path = f"devices/{device_id}"
        try:
            sas.verify(token, device.keys if device else _NO_KEYS, resource_path=path, now=self._clock())
        except Denied:
            return None
        # The device's own, not a policy's, and for this device, not for all that is above it.
        if device is None or token.policy is not None or token.path.count("/") != path.count("/"):
            return None
        return self._pulling(device, token.expires_at)

    def find(self, device_id: str) -> PullingDevice | None:
        """Return the device when it is known and enabled, or None."""
        device = self._find_enabled(device_id)
        return None if device is None else self._pulling(device, None)

    def _find_enabled(self, device_id: str) -> Identity | None:
        if not is_valid_id(device_id):
            return None
        with self._engine.connect() as db:
            device = find_in(db, device_id)
        return device if device is not None and device.is_enabled else None

    def _pulling(self, device: Identity, expires_at: int | None) -> PullingDevice:
        twins = tables.twins.c
        query = select(twins.desired).where(twins.device_id == device.device_id, twins.module_id == EDGE_AGENT)
        with self._engine.connect() as db:
            desired = db.execute(query).scalar_one_or_none()
        mark = hashlib.sha256("/".join(device.keys).encode()).hexdigest()
        return PullingDevice(device.device_id, device.generation_id, mark, frozenset(_images(desired)), expires_at)


def _images(desired: Any) -> Iterator[str]:
    """Yield the images that the desired properties of $edgeAgent name. A twin can be patched to anything."""
    for section in ("systemModules", "modules"):
        modules = desired.get(section) if isinstance(desired, Mapping) else None
        for module in modules.values() if isinstance(modules, Mapping) else ():
            settings = module.get("settings") if isinstance(module, Mapping) else None
            image = settings.get("image") if isinstance(settings, Mapping) else None
            if isinstance(image, str):
                yield image
