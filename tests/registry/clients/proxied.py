"""A proxy by which a program reaches the registry under a name that no resolver knows, and that cuts connections.

Docker skips the check of certificates for 127.0.0.1. For any other name it
does check, and asks the proxy of `HTTPS_PROXY` (RFC 9110, CONNECT), which needs
neither an entry in /etc/hosts nor an address of this machine.
"""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Direction = Literal["sent", "received"]


class Proxy(socketserver.ThreadingTCPServer):
    """Takes every name for this machine; `cuts` counts the connections that it has cut."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self._lock = threading.Lock()
        self._planned: list[tuple[Direction, int]] = []
        self.cuts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def plan_cut(self, direction: Direction, after_bytes: int) -> None:
        """Cut the first connection by which the client *sent* or *received* more than that."""
        self._planned.append((direction, after_bytes))

    def is_to_cut(self, direction: Direction, count: int) -> bool:
        """Say whether a connection ends now, and remember that it did."""
        with self._lock:
            if self._planned and self._planned[0][0] == direction and count > self._planned[0][1]:
                self._planned.pop(0)
                self.cuts += 1
                return True
            return False


class _Connection(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        first = self.rfile.readline(4096).split()
        while self.rfile.readline(4096).strip():
            pass
        if len(first) != 3 or first[0] != b"CONNECT":
            self.wfile.write(b"HTTP/1.1 405 only CONNECT\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", int(first[1].rpartition(b":")[2])), 10) as other:
            other.settimeout(None)
            self.wfile.write(b"HTTP/1.1 200 connected\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(other, self.connection, "received"), daemon=True)
            back.start()
            self._pump(self.connection, other, "sent")
            back.join(10)

    def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        count = 0
        with suppress(OSError):
            while piece := source.recv(65536):
                count += len(piece)
                if self.server.is_to_cut(direction, count):
                    source.shutdown(socket.SHUT_RDWR)
                    break
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR if direction == "received" else socket.SHUT_WR)


@contextmanager
def proxied() -> Iterator[Proxy]:
    """Yield a running proxy."""
    with Proxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join(10)
