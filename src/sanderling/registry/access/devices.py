"""What the registry asks about devices of a hub. It knows no hub: the composition root answers."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DeviceStanding:
    """A device that is known and enabled, and what it may pull now.

    `generation` differs when a deleted device comes back; `mark` changes with its keys.
    `repositories` are those that its deployment names. `expires_at` (seconds of the
    epoch) is the end of the signature that it showed.
    """

    device_id: str
    generation: str
    mark: str = field(repr=False)
    repositories: frozenset[str]
    expires_at: float | None = None


class Devices(Protocol):
    """Both may block, and are asked anew each time: who was disabled or deleted is refused at once."""

    def sign_in(self, device_id: str, signature: str) -> DeviceStanding | None:
        """Return the standing of the device that made *signature* (`SharedAccessSignature ...`), or None."""

    def find(self, device_id: str) -> DeviceStanding | None:
        """Return the standing of a device that is known and enabled, or None."""
