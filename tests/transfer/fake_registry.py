"""A registry in memory whose faults a test chooses, on a free port: what real registries do now and then."""

import base64
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "demo", "right"


@dataclass
class FakeRegistry:
    """What it holds, how it behaves, what it was asked."""

    auth: str = ""  # "", "basic" or "bearer"
    token_methods: tuple[str, ...] = ("GET", "POST")
    token_ttl: int | None = 300
    token_uses: int = 10**9  # a token is refused after so many requests: as if it had expired
    faults: list[str] = field(default_factory=list)  # for each request in order: "", "503", "429", "cut"
    retry_after: str = ""
    cut_uploads_at: list[int] = field(default_factory=list)
    knows_status: bool = True
    cut_downloads_at: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    blobs_are_at: str = ""  # another host's root
    mounts: bool = True
    has_referrers: bool = True
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    tokens: dict[str, tuple[int, str]] = field(default_factory=dict)
    host: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def asked(self, method: str, part: str) -> list[dict[str, str]]:
        """The headers of the requests so far that were *method* and have *part* in their address."""
        return [headers for m, path, headers in self.seen if m == method and part in path]

    @contextmanager
    def serving(self) -> Iterator["FakeRegistry"]:
        handler = type("Handler", (_Handler,), {"here": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # broken connections are the point
        self.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    here: FakeRegistry

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
        self.close_connection = True
        self.connection.close()

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def serve(self) -> None:
        here = self.here
        here.seen.append((self.command, self.path, dict(self.headers.items())))
        if self.path.startswith("/token"):
            return self.token()
        fault = here.faults.pop(0) if here.faults else ""
        if fault == "cut":
            return self.cut()
        if fault:
            self.body()
            return self.answer(int(fault), **({"Retry_After": here.retry_after} if here.retry_after else {}))
        if not self.may():
            self.body()
            name = re.match(r"/v2/(.+?)/(?:blobs|manifests|tags|referrers)/", self.path)
            challenge = f'Bearer realm="http://{here.host}/token",service="fake"'
            challenge += f',scope="repository:{name[1]}:pull"' if name else ""
            return self.answer(401, WWW_Authenticate='Basic realm="x"' if here.auth == "basic" else challenge)
        parts = urlsplit(self.path)
        for pattern, method in (
            (r"/v2/(.+)/blobs/uploads/", self.begin),
            (r"/v2/(.+)/blobs/uploads/(.+)", self.upload),
            (r"/v2/(.+)/blobs/(.+)", self.blob),
            (r"/v2/(.+)/manifests/(.+)", self.manifest),
            (r"/v2/(.+)/referrers/(.+)", self.referrers),
            (r"/v2/(.+)/tags/list", self.tags),
        ):
            found = re.fullmatch(pattern, parts.path)
            if found:
                return method(*found.groups(), query=parse_qs(parts.query))  # type: ignore[operator]
        return self.answer(404)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815 - the names of the base class

    def may(self) -> bool:
        header, here = self.headers.get("Authorization", ""), self.here
        if here.auth == "basic":
            return header == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if here.auth != "bearer":
            return True
        uses, scope = here.tokens.get(header.removeprefix("Bearer "), (0, ""))
        here.tokens[header.removeprefix("Bearer ")] = (uses - 1, scope)
        return uses > 0

    def token(self) -> None:
        here = self.here
        if self.command not in here.token_methods:
            self.body()
            return self.answer(405)
        if self.command == "GET":
            query = parse_qs(urlsplit(self.path).query)
            given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            is_known = given in (f"{USER}:{PASSWORD}", "")
        else:
            query = parse_qs(self.body().decode())
            is_known = query.get("password") == [PASSWORD] or query.get("refresh_token") == ["identity"]
        if not is_known:
            return self.answer(401)
        text = f"token-{len(here.tokens)}"
        here.tokens[text] = (here.token_uses, " ".join(query.get("scope", [])))
        document = {"access_token": text} | ({"expires_in": here.token_ttl} if here.token_ttl is not None else {})
        return self.answer(200, json.dumps(document).encode())

    def begin(self, name: str, query: dict[str, list[str]]) -> None:
        here = self.here
        self.body()  # a whole blob, which this registry does not take so
        if "mount" in query and here.mounts:
            content = here.blobs.get((query["from"][0], query["mount"][0]))
            if content is not None:
                here.blobs[name, query["mount"][0]] = content
                return self.answer(201)
        upload = f"u{next(here.numbers)}"
        here.uploads[upload] = b""
        return self.answer(202, Location=f"http://{here.host}/v2/{name}/blobs/uploads/{upload}?state=s")

    def upload(self, name: str, upload: str, query: dict[str, list[str]]) -> None:
        here = self.here
        if upload not in here.uploads:
            self.body()
            return self.answer(404)
        held = here.uploads[upload]
        if self.command == "GET":
            if not here.knows_status:
                return self.answer(404)
            return self.answer(204, Range=f"0-{max(0, len(held) - 1)}", Location=f"/v2/{name}/blobs/uploads/{upload}")
        if self.command == "DELETE":
            del here.uploads[upload]
            return self.answer(204)
        length = int(self.headers.get("Content-Length") or 0)
        begins = int((self.headers.get("Content-Range") or f"{len(held)}-").partition("-")[0])
        if begins != len(held):
            self.body()
            return self.answer(416, Range=f"0-{max(0, len(held) - 1)}")
        if here.cut_uploads_at and length:
            here.uploads[upload] = held + self.rfile.read(here.cut_uploads_at.pop(0))
            return self.cut()
        here.uploads[upload] = held = held + self.body()
        if self.command == "PATCH":
            return self.answer(202, Location=f"/v2/{name}/blobs/uploads/{upload}", Range=f"0-{len(held) - 1}")
        algorithm, _, digest = query["digest"][0].partition(":")
        del here.uploads[upload]
        if hashlib.new(algorithm, held).hexdigest() != digest:
            return self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"other content"}]}')
        here.blobs[name, query["digest"][0]] = held
        return self.answer(201)

    def blob(self, name: str, digest: str, query: dict[str, list[str]]) -> None:
        here = self.here
        content = here.blobs.get((name, digest))
        if content is None:
            return self.answer(404)
        if here.blobs_are_at:
            return self.answer(307, Location=f"{here.blobs_are_at}/v2/{name}/blobs/{digest}")
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted and here.knows_ranges else 0
        if start >= len(content) > 0:
            return self.answer(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return None
        if here.cut_downloads_at:
            self.wfile.write(content[start : start + here.cut_downloads_at.pop(0)])
            return self.cut()
        self.wfile.write(content[start:])
        return None

    def manifest(self, name: str, reference: str, query: dict[str, list[str]]) -> None:
        here = self.here
        if self.command == "PUT":
            raw, media_type = self.body(), self.headers["Content-Type"]
            digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
            here.manifests[name, reference] = here.manifests[name, digest] = (raw, media_type)
            headers = {"OCI_Subject": "x"} if here.has_referrers and b'"subject"' in raw else {}
            return self.answer(201, Docker_Content_Digest=digest, **headers)
        if (name, reference) not in here.manifests:
            return self.answer(404)
        raw, media_type = here.manifests[name, reference]
        return self.answer(200, raw, Content_Type=media_type)

    def referrers(self, name: str, digest: str, query: dict[str, list[str]]) -> None:
        return self.answer(404)

    def tags(self, name: str, query: dict[str, list[str]]) -> None:
        tags = sorted({tag for repository, tag in self.here.manifests if repository == name and ":" not in tag})
        last = query.get("last", [""])[0]
        page = [tag for tag in tags if tag > last][:2]
        link = {"Link": f'</v2/{name}/tags/list?last={page[-1]}>; rel="next"'} if page and page[-1] != tags[-1] else {}
        return self.answer(200, json.dumps({"name": name, "tags": page}).encode(), **link)
