"""A real package index (PEP 503) over HTTP on a free port of this machine."""

import base64
import hashlib
import html
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.image.servers import _Handler, serving

PURE = "py3-none-any"


def wheel_bytes(name: str, version: str, tag: str = PURE, requires: Sequence[str] = (), python: str = "") -> bytes:
    """A small wheel, the same bytes each time."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    metadata += [f"Requires-Python: {python}"] if python else []
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in {
            f"{name.replace('-', '_')}.py": f"version = {version!r}\n",
            f"{info}/METADATA": "\n".join(metadata) + "\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
            f"{info}/RECORD": "",
        }.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), content)
    return file.getvalue()


class Index:
    """Add wheels and sources, then serve. *fault*: "cut" breaks each answer in the middle, "500" is one."""

    def __init__(self) -> None:
        self.pages: dict[str, list[str]] = {}
        self.files: dict[str, bytes] = {}
        self.login: str | None = None
        self.fault = ""
        self.asked: list[str] = []

    def wheel(
        self,
        name: str,
        version: str,
        tag: str = PURE,
        requires: Sequence[str] = (),
        python: str = "",
        yanked: str | None = None,
    ) -> str:
        """Add a wheel; return its sha256."""
        content = wheel_bytes(name, version, tag, requires, python)
        attributes = f' data-requires-python="{html.escape(python)}"' if python else ""
        attributes += f' data-yanked="{html.escape(yanked)}"' if yanked is not None else ""
        return self._add(name, f"{name.replace('-', '_')}-{version}-{tag}.whl", content, attributes)

    def source(self, name: str, version: str) -> None:
        """Add a source distribution, which nobody may open."""
        self._add(name, f"{name}-{version}.tar.gz", b"this must not be read", "")

    def _add(self, name: str, file: str, content: bytes, attributes: str) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.files[file] = content
        self.pages.setdefault(name, []).append(f'<a href="/files/{file}#sha256={digest}"{attributes}>{file}</a>')
        return digest

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve; gives ``host:port``. The index is at ``/simple/``."""
        with serving(self._handler()) as host:
            yield host

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        here = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                here.asked.append(self.path)
                if here.login and self.headers.get("Authorization") != "Basic " + here.login:
                    return self.answer(401, WWW_Authenticate="Basic realm=index")
                kind, _, name = self.path.strip("/").partition("/")
                body = here.files.get(name) if kind == "files" else None
                if kind == "simple" and name in here.pages:
                    body = f"<!DOCTYPE html><html><body>{'<br/>'.join(here.pages[name])}</body></html>".encode()
                if body is None:
                    return self.answer(404)
                if here.fault == "500":
                    return self.answer(500)
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if kind == "simple" else "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "HEAD":
                    return None
                if here.fault == "cut":
                    self.wfile.write(body[: len(body) // 2])
                    return self.cut()
                self.wfile.write(body)
                return None

            def do_HEAD(self) -> None:
                self.do_GET()

        return Handler

    def lock_with(self, user: str, password: str) -> None:
        """Ask for *user* and *password* from now on."""
        self.login = base64.b64encode(f"{user}:{password}".encode()).decode()
