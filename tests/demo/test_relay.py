import socket
import threading
from collections.abc import Iterator
from time import monotonic, sleep

import pytest

from sanderling.demo.relay import Relay


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(one: socket.socket) -> None:
        with one:
            try:
                while data := one.recv(65536):
                    one.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(one,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def said(connection: socket.socket, data: bytes) -> bytes:
    connection.settimeout(5)
    connection.sendall(data)
    got = b""
    while len(got) < len(data):
        chunk = connection.recv(65536)
        if not chunk:
            break
        got += chunk
    return got


def test_bytes_go_through_both_ways(echo: int) -> None:
    port = free_port()
    with Relay([(port, echo)]), socket.create_connection(("127.0.0.1", port)) as connection:
        assert said(connection, b"x" * 1_000_000) == b"x" * 1_000_000


def test_the_end_of_one_direction_leaves_the_other_open(echo: int) -> None:
    port = free_port()
    with Relay([(port, echo)]), socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
        assert connection.recv(100) == b"last words"
        assert connection.recv(100) == b""


def test_a_cut_resets_what_is_open_and_refuses_what_is_new(echo: int) -> None:
    port = free_port()
    with Relay([(port, echo)]) as relay, socket.create_connection(("127.0.0.1", port)) as connection:
        assert said(connection, b"a") == b"a"
        relay.cut()
        connection.settimeout(5)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert relay.connections == 0


def test_a_restored_link_takes_connections_again(echo: int) -> None:
    port = free_port()
    with Relay([(port, echo)]) as relay:
        for _ in range(3):
            relay.cut()
            relay.cut()
            relay.restore()
            with socket.create_connection(("127.0.0.1", port)) as connection:
                assert said(connection, b"again") == b"again"


def test_a_target_that_is_not_there_ends_the_connection() -> None:
    port, nobody = free_port(), free_port()
    with Relay([(port, nobody)]), socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(5)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_port_in_use_leaves_nothing_running(echo: int) -> None:
    free = free_port()
    before = threading.active_count()
    with pytest.raises(OSError, match="in use"), Relay([(free, echo), (echo, echo)]):
        pass
    deadline = monotonic() + 5
    while threading.active_count() > before and monotonic() < deadline:
        sleep(0.01)
    assert threading.active_count() == before
    with socket.create_server(("127.0.0.1", free)):
        pass
