"""Ports are taken before anything else is done: when one is not to be had, nothing has changed."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sanderling.errors import Conflict, Denied, Invalid

BACKLOG = 2048


class PortInUse(Conflict):
    """Another process listens on the port."""

    def __init__(self, port: int, option: str) -> None:
        super().__init__(
            f"port {port} is in use by another process: choose another with {option}, "
            f"or see who has it with: ss -ltnp 'sport = :{port}'"
        )
        self.port = port


@contextmanager
def listen(host: str | None, port: int, option: str) -> Iterator[list[socket.socket]]:
    """Yield sockets that listen on *port* of *host* (None: every address, both families); close them at the end.

    A port of 0 is chosen by the system, the same for all sockets. *option* is named in messages.
    Raises PortInUse, Invalid for a host that is not this machine's, Denied for a port that needs more rights.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(opened) for opened in _open(host, port, option)]


def _open(host: str | None, port: int, option: str) -> list[socket.socket]:
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in _addresses(host):
            try:
                opened.append(_open_one(family, address, port))
            except OSError as e:
                # A name may stand for an address that this machine does not have, such as ::1 for localhost.
                if e.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = e
            else:
                port = opened[0].getsockname()[1]
        if not opened and missing is not None:
            raise missing
    except OSError as e:
        for one in opened:
            one.close()
        if e.errno == errno.EADDRINUSE:
            raise PortInUse(port, option) from e
        if e.errno == errno.EACCES:
            raise Denied(f"port {port} needs more rights: choose one above 1023 with {option}") from e
        raise Invalid(f"cannot listen on {host}: {e.strerror}; choose an address of this machine with --host") from e
    return opened


def _addresses(host: str | None) -> list[tuple[socket.AddressFamily, str]]:
    if host in (None, "", "::"):
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, "::")]
        return [(socket.AF_INET, "0.0.0.0")]
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _open_one(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are still ending may be taken again at once.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        opened.bind((address, port))
        # Only listening makes the claim sure: two sockets may be bound alike.
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened
