"""A client that costs next to nothing, so that the server is what is measured. A process of its own.

Reads one JSON job a line on standard input and answers each with one line:

    {"job": "push", "url": ..., "repository": ..., "file": ..., "offset": 0, "size": ..., "digest": ..., "way": "put"}
    {"seconds": ...}

Bytes go from the file's pages to the socket (sendfile, or sendmsg over a map) and come into one buffer
that nobody looks at. Nothing is hashed in the timed part; job `hash` pulls again and hashes.
"""

import hashlib
import json
import mmap
import selectors
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

CHUNK_BYTES = 32 * 1024  # as Go's HTTP client sends a body of unknown length, and with it Docker
CHUNKS_A_CALL = 64
BUFFER_BYTES = 1 << 20
TLS_PIECE_BYTES = 256 * 1024
MAX_HEAD_BYTES = 65536


class Failed(Exception):
    """The server answered what was not expected."""


class Peer:
    """A server's address, and how it is reached."""

    def __init__(self, url: str, ca: str | None) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 0)
        self.context = ssl.create_default_context(cafile=ca) if ca else None

    def connect(self) -> "Connection":
        raw = socket.create_connection((self.host, self.port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            return Connection(raw, self)
        return Connection(self.context.wrap_socket(raw, server_hostname=self.host), self)


class Connection:
    """One keep-alive connection: requests one after the other."""

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self.sock, self.peer = sock, peer
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.left = 0
        self.rest = b""

    def close(self) -> None:
        self.sock.close()

    def send_head(self, method: str, target: str, **headers: object) -> None:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.peer.host}:{self.peer.port}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def read_head(self, expected: int) -> dict[str, str]:
        """Return the headers of the answer; what came of its body is counted already."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.sock.recv(MAX_HEAD_BYTES)
            if not piece:
                raise Failed(f"the connection ended in a head: {head[:200]!r}")
            head += piece
        text, _, self.rest = head.partition(b"\r\n\r\n")
        status, *lines = text.decode("latin-1").split("\r\n")
        if int(status.split()[1]) != expected:
            raise Failed(f"{status}, not {expected}: {self.rest[:300]!r}")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.left = int(headers.get("content-length", 0)) - len(self.rest)
        return headers

    def drain(self, look: Callable[[memoryview], object] | None = None) -> int:
        """Receive the rest of the body; return how many bytes that was. *look* sees them."""
        size = len(self.rest) + self.left
        if look is not None:
            look(memoryview(self.rest))
        while self.left > 0:
            got = self.sock.recv_into(self.buffer[: min(self.left, BUFFER_BYTES)])
            if not got:
                raise Failed(f"the connection ended with {self.left} bytes to come")
            if look is not None:
                look(self.buffer[:got])
            self.left -= got
        return size

    def ask(self, expected: int, method: str, target: str, **headers: object) -> dict[str, str]:
        self.send_head(method, target, **headers)
        answer = self.read_head(expected)
        self.drain()
        return answer


def target_of(location: str, digest: str = "") -> str:
    """The path and query of a Location, which may be absolute, with a digest."""
    parts = urlsplit(location)
    query = "&".join(word for word in (parts.query, f"digest={digest}" if digest else "") if word)
    return parts.path + (f"?{query}" if query else "")


def send_all(connection: Connection, content: memoryview, opened: Any, offset: int) -> None:
    if isinstance(connection.sock, ssl.SSLSocket):
        for start in range(0, len(content), TLS_PIECE_BYTES):
            connection.sock.sendall(content[start : start + TLS_PIECE_BYTES])
    else:
        connection.sock.sendfile(opened, offset, len(content))


def send_chunked(connection: Connection, content: memoryview) -> None:
    starts = range(0, len(content), CHUNK_BYTES)
    is_tls = isinstance(connection.sock, ssl.SSLSocket)
    for group in range(0, len(starts), CHUNKS_A_CALL):
        pieces: list[bytes | memoryview] = []
        for start in starts[group : group + CHUNKS_A_CALL]:
            piece = content[start : start + CHUNK_BYTES]
            pieces += [b"%x\r\n" % len(piece), piece, b"\r\n"]
        if is_tls:
            connection.sock.sendall(b"".join(pieces))
        else:
            send_pieces(connection.sock, pieces)
    connection.sock.sendall(b"0\r\n\r\n")


def send_pieces(sock: socket.socket, pieces: Sequence[bytes | memoryview]) -> None:
    """Send all of *pieces*, also when the kernel takes a part."""
    sent = sock.sendmsg(pieces)
    for piece in pieces:
        if sent < len(piece):
            sock.sendall(memoryview(piece)[sent:])
            sent = 0
        else:
            sent -= len(piece)


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Upload a part of a file: way `put` is POST and PUT, way `patch` is POST, PATCH in chunks and PUT."""
    peer = Peer(job["url"], job.get("ca"))
    size, offset = job["size"], job.get("offset", 0)
    with open(job["file"], "rb") as opened:  # noqa: PTH123 - sendfile wants the file
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        with mmap.mmap(opened.fileno(), 0, flags, mmap.PROT_READ) as mapped:
            whole = memoryview(mapped)
            content = whole[offset : offset + size]
            began = time.perf_counter()
            with closing(peer.connect()) as connection:
                repository = f"/v2/{job['repository']}/blobs/uploads/"
                where = connection.ask(202, "POST", repository, Content_Length=0)["location"]
                kind = "application/octet-stream"
                if job["way"] == "patch":
                    target = target_of(where)
                    connection.send_head("PATCH", target, Transfer_Encoding="chunked", Content_Type=kind)
                    send_chunked(connection, content)
                    where = connection.read_head(202)["location"]
                    connection.drain()
                    connection.ask(201, "PUT", target_of(where, job["digest"]), Content_Length=0)
                else:
                    target = target_of(where, job["digest"])
                    connection.send_head("PUT", target, Content_Length=size, Content_Type=kind)
                    send_all(connection, content, opened, offset)
                    connection.read_head(201)
                    connection.drain()
                seconds = time.perf_counter() - began
            content.release()
            whole.release()
    return {"seconds": seconds}


def put_manifest(job: dict[str, Any]) -> dict[str, Any]:
    with closing(Peer(job["url"], job.get("ca")).connect()) as connection:
        body = job["manifest"].encode()
        path = f"/v2/{job['repository']}/manifests/{job['tag']}"
        kind = "application/vnd.oci.image.manifest.v1+json"
        connection.send_head("PUT", path, Content_Length=len(body), Content_Type=kind)
        connection.sock.sendall(body)
        connection.read_head(201)
        connection.drain()
    return {}


def pushes(job: dict[str, Any]) -> dict[str, Any]:
    """Do many pushes at once, a thread each; or one after the other."""
    began = time.perf_counter()
    if not job["at_once"]:
        for one in job["jobs"]:
            push(one)
        return {"seconds": time.perf_counter() - began}
    failures: list[Exception] = []

    def run(one: dict[str, Any]) -> None:
        try:
            push(one)
        except Exception as e:  # noqa: BLE001 - handed to the caller
            failures.append(e)

    threads = [threading.Thread(target=run, args=(one,)) for one in job["jobs"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return {"seconds": time.perf_counter() - began}


def pull(job: dict[str, Any]) -> dict[str, Any]:
    """GET one path; return how long it took and how many bytes came."""
    peer = Peer(job["url"], job.get("ca"))
    began = time.perf_counter()
    with closing(peer.connect()) as connection:
        connection.send_head("GET", job["path"])
        connection.read_head(200)
        size = connection.drain()
        seconds = time.perf_counter() - began
        cipher = connection.sock.cipher() if isinstance(connection.sock, ssl.SSLSocket) else None
    return {"seconds": seconds, "bytes": size, "cipher": cipher[0] if cipher else None}


def hash_(job: dict[str, Any]) -> dict[str, Any]:
    """GET paths and return their digests; not timed."""
    digests = []
    with closing(Peer(job["url"], job.get("ca")).connect()) as connection:
        for path in job["paths"]:
            hasher = hashlib.sha256()
            connection.send_head("GET", path, Accept=job.get("accept", "*/*"))
            connection.read_head(200)
            connection.drain(hasher.update)
            digests.append(f"sha256:{hasher.hexdigest()}")
    return {"digests": digests}


class Getter:
    """One connection of `gets`: asks for the next path when an answer is whole."""

    def __init__(self, peer: Peer, paths: Iterable[str], accept: str, buffer: memoryview) -> None:
        self.connection = peer.connect()
        self.sock = self.connection.sock
        self.sock.setblocking(False)
        self.paths, self.accept, self.buffer = iter(paths), accept, buffer
        self.head, self.left, self.bytes = b"", 0, 0

    def ask(self) -> bool:
        """Ask for the next; say whether there was one."""
        path = next(self.paths, None)
        if path is None:
            return False
        self.head = b""
        self.connection.send_head("GET", path, Accept=self.accept)
        return True

    def receive(self) -> bool:
        """Take what is there; say whether more of this connection is to come."""
        try:
            got = self.sock.recv_into(self.buffer)
        except BlockingIOError:
            return True
        if not got:
            raise Failed("the connection ended in an answer")
        if self.left:
            self.left -= got
            self.bytes += got
            return self.left > 0 or self.ask()
        self.head += self.buffer[:got]
        head, end, body = self.head.partition(b"\r\n\r\n")
        if not end:
            return True
        if not head.startswith(b"HTTP/1.1 200"):
            raise Failed(f"{head[:100]!r}, not 200")
        at = head.lower().index(b"content-length:") + 15
        self.left = int(head[at:].split(b"\r\n", 1)[0]) - len(body)
        self.bytes += len(body)
        return self.left > 0 or self.ask()


def gets(job: dict[str, Any]) -> dict[str, Any]:
    """GET many paths over so many connections at once, all in one thread."""
    peer = Peer(job["url"], None)
    paths, count = job["paths"], job["connections"]
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        getters = [Getter(peer, paths[n::count], job.get("accept", "*/*"), buffer) for n in range(count)]
        open_ = 0
        for getter in getters:
            if getter.ask():
                selector.register(getter.sock, selectors.EVENT_READ, getter)
                open_ += 1
        while open_:
            for key, _ in selector.select(60):
                if not key.data.receive():
                    selector.unregister(key.fileobj)
                    open_ -= 1
        seconds = time.perf_counter() - began
    for getter in getters:
        getter.connection.close()
    return {"seconds": seconds, "bytes": sum(getter.bytes for getter in getters)}


JOBS = {"push": push, "pushes": pushes, "put_manifest": put_manifest, "pull": pull, "hash": hash_, "gets": gets}


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = JOBS[job["job"]](job)
        except (OSError, Failed, ValueError, KeyError) as e:
            answer = {"error": f"{job['job']}: {type(e).__name__}: {e}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
