"""Real HTTP servers that misbehave on purpose, on a free port of this machine."""

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        """Break the connection."""
        self.close_connection = True
        self.connection.close()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve until the context ends; gives ``host:port``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # broken connections are the point
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FileServer:
    """Serves *files*; the first answers for a path are as *faults* say: "503", "cut", "wrong", "no-range"."""

    def __init__(self, files: dict[str, bytes], faults: dict[str, list[str]] | None = None) -> None:
        self.files = files
        self.faults = faults or {}
        self.login: str | None = None
        self.seen: list[tuple[str, str | None]] = []

    def handler(self) -> type[BaseHTTPRequestHandler]:
        here = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                here.seen.append((self.path, self.headers.get("Range")))
                body = here.files.get(self.path)
                faults = here.faults.get(self.path, [])
                fault = faults.pop(0) if faults else ""
                if here.login and self.headers.get("Authorization") != f"Basic {here.login}":
                    return self.answer(401)
                if body is None:
                    return self.answer(404)
                if fault == "503":
                    return self.answer(503)
                if fault == "wrong":
                    return self.answer(200, bytes(len(body)))
                found = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
                start = int(found[1]) if found and fault != "no-range" else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                if fault == "cut":
                    self.wfile.write(body[start : start + len(body) // 3])
                    return self.cut()
                self.wfile.write(body[start:])
                return None

        return Handler


class RegistryServer:
    """The pushing half of a registry, in memory. *faults* are used up one for each PUT of a blob: "503", "cut"."""

    def __init__(self, auth: str = "none", user: str = "demo", password: str = "right") -> None:
        self.auth, self.user, self.password = auth, user, password
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.host = ""

    def _is_allowed(self, header: str | None) -> bool:
        basic = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"none": True, "basic": header == basic, "bearer": header == "Bearer good-token"}[self.auth]

    def handler(self) -> type[BaseHTTPRequestHandler]:
        here = self

        class Handler(_Handler):
            def _guard(self) -> bool:
                here.requests.append(f"{self.command} {self.path}")
                if here._is_allowed(self.headers.get("Authorization")):
                    return True
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                scheme = (
                    "Basic realm=x" if here.auth == "basic" else f'Bearer realm="http://{here.host}/token",service="s"'
                )
                self.answer(401, WWW_Authenticate=scheme)
                return False

            def do_HEAD(self) -> None:
                if self._guard():
                    repository, digest = re.fullmatch(r"/v2/(.+)/blobs/(.+)", self.path).groups()  # type: ignore[union-attr]
                    self.answer(200 if digest in here.blobs.get(repository, {}) else 404)

            def do_GET(self) -> None:
                basic = "Basic " + base64.b64encode(f"{here.user}:{here.password}".encode()).decode()
                if self.path.startswith("/token") and self.headers.get("Authorization") == basic:
                    return self.answer(200, b'{"token": "good-token"}')
                return self.answer(401)

            def do_POST(self) -> None:
                if not self._guard():
                    return None
                parts = urlsplit(self.path)
                repository = re.fullmatch(r"/v2/(.+)/blobs/uploads/", parts.path)[1]  # type: ignore[index]
                query = parse_qs(parts.query)
                if "mount" in query:
                    held = here.blobs.get(query["from"][0], {}).get(query["mount"][0])
                    if held is not None:
                        here.blobs.setdefault(repository, {})[query["mount"][0]] = held
                        return self.answer(201)
                return self.answer(202, Location=f"/v2/{repository}/blobs/uploads/1?state=x")

            def do_PUT(self) -> None:
                is_blob = "/blobs/uploads/" in self.path
                if is_blob and here.faults:
                    fault = here.faults.pop(0)
                    if fault == "cut":
                        self.rfile.read(10)
                        return self.cut()
                    self.rfile.read(int(self.headers["Content-Length"]))
                    return self.answer(int(fault))
                if not self._guard():
                    return None
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if len(body) != int(self.headers["Content-Length"]):
                    return self.cut()
                if not is_blob:
                    repository, reference = re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path).groups()  # type: ignore[union-attr]
                    here.manifests[repository, reference] = body
                    return self.answer(201)
                parts = urlsplit(self.path)
                digest = parse_qs(parts.query)["digest"][0]
                if digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
                    error = {"errors": [{"code": "DIGEST_INVALID", "message": "other content"}]}
                    return self.answer(400, json.dumps(error).encode())
                here.blobs.setdefault(parts.path[4:].split("/blobs/")[0], {})[digest] = body
                return self.answer(201)

        return Handler
