"""The parts of the hub that its endpoints share."""

from collections.abc import Callable
from dataclasses import dataclass

from sanderling.hub.access import Access
from sanderling.hub.connections import Connections
from sanderling.hub.deployments import Deployments
from sanderling.hub.events import EventStream
from sanderling.hub.identities import Identities
from sanderling.hub.sessions import Sessions
from sanderling.hub.twins import Twins


@dataclass(frozen=True, slots=True)
class Parts:
    """What `rest` and `mqtt_endpoint` work with."""

    access: Access
    connections: Connections
    deployments: Deployments
    events: EventStream
    identities: Identities
    sessions: Sessions
    twins: Twins
    clock: Callable[[], float]
    device_deleted: Callable[[str], None]
