"""Raw bytes to a server, and what comes back: a strict reader of answers."""

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.registry.conformance.repository import ERROR_CODES
from tests.registry.serving import Served

CORPUS = Path(__file__).parent / "corpus"
# An answer comes within this, and a connection ends within it once our half is closed.
LIMIT_S = 15.0
# When nothing more has come for so long, the server is thought to wait: after an answer, before one.
_QUIET_S, _THINKING_S = 0.03, 0.5
_REPEAT = re.compile(rb"@(\d+)\*(.)@", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """One answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error; fails where the answer is no error of the specification's form."""
        assert self.headers["content-type"] == "application/json", self
        (error,) = json.loads(self.body)["errors"]
        assert error["code"] in ERROR_CODES, self
        return str(error["code"])


class Silence(AssertionError):
    """The server neither answered nor ended the connection."""


def fill(raw: bytes, server: Served, upload: str = "/v2/demo/x/blobs/uploads/none") -> bytes:
    """Put in the words that a file of the corpus leaves open."""
    raw = raw.replace(b"@HOST@", f"{server.host}:{server.port}".encode())
    raw = raw.replace(b"@AUTHORIZATION@", server.headers["Authorization"].encode())
    raw = raw.replace(b"@UPLOAD@", upload.encode())
    return _REPEAT.sub(lambda found: found[2] * int(found[1]), raw)


def exchange(server: Served, raw: bytes) -> bytes:
    """Send *raw* on a connection of its own; return all that comes back until the server ends it.

    When the server waits for more, our half is closed: what was promised does not come.
    """
    received = bytearray()
    with socket.create_connection((server.host, server.port), timeout=LIMIT_S) as connection:
        try:
            connection.sendall(raw)
            for timeout_s in (_THINKING_S, LIMIT_S):
                connection.settimeout(timeout_s)
                try:
                    while piece := connection.recv(65536):
                        received += piece
                        connection.settimeout(_QUIET_S if timeout_s == _THINKING_S else LIMIT_S)
                    return bytes(received)
                except TimeoutError:
                    connection.shutdown(socket.SHUT_WR)
        except (ConnectionResetError, BrokenPipeError):
            return bytes(received)
    raise Silence(f"after {bytes(received[:200])!r}")


def answers(raw: bytes) -> list[Answer]:
    """Read the answers to requests other than HEAD; fail at anything that is not well-formed HTTP/1.1."""
    found = []
    while raw:
        head, end, raw = raw.partition(b"\r\n\r\n")
        assert end, head
        lines = head.decode("latin-1").split("\r\n")
        status_line = re.fullmatch(r"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]*", lines[0])
        assert status_line, lines[0]
        status = int(status_line[1])
        headers: dict[str, str] = {}
        for line in lines[1:]:
            header = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([^\x00-\x08\x0a-\x1f]*)", line)
            assert header, line
            headers[header[1].lower()] = header[2]
        if status < 200:
            continue
        body = b""
        if status not in (204, 304):
            # The one answer without a length is the server's own to what is no HTTP; it closes.
            length = int(headers["content-length"]) if "content-length" in headers else len(raw)
            assert "content-length" in headers or headers["connection"] == "close", lines
            body, raw = raw[:length], raw[length:]
            assert len(body) == length, (lines, body)
        found.append(Answer(status, headers, body))
    return found
