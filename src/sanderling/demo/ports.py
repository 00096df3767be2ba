"""The ports of the demo, the same ones in the next run where they are still free.

The device keeps the server's address, so a second run with the same ports starts
from what is there.
"""

import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens, all on this machine.

    https, mqtt: the server itself. relay_https, relay_mqtt: what the device is told.
    gateway: the edge hub, for modules and sensors. module: /score.
    """

    https: int
    mqtt: int
    relay_https: int
    relay_mqtt: int
    gateway: int
    module: int


def choose(file: Path) -> Ports:
    """Return the ports of the last run if all are free, else new ones; *file* remembers them."""
    remembered = _read(file)
    if remembered is not None and are_free(list(asdict(remembered).values())):
        return remembered
    names = [field.name for field in fields(Ports)]
    with ExitStack() as stack:
        # All are held until all are chosen, so that no two are the same.
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        chosen = Ports(**{name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)})
    file.write_text(json.dumps(asdict(chosen)) + "\n")
    return chosen


def are_free(ports: Sequence[int]) -> bool:
    """Whether every one of *ports* can be listened on now."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                probe.listen(1)
            except OSError:
                return False
    return True


def _read(file: Path) -> Ports | None:
    try:
        values = json.loads(file.read_text())
        ports = Ports(**{field.name: int(values[field.name]) for field in fields(Ports)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ports if all(0 < port < 65536 for port in asdict(ports).values()) else None
