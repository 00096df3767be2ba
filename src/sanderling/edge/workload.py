"""The workload API: what a module asks the runtime over its own unix socket.

    GET  /trust-bundle                                -> {"certificate": PEM}
    POST /modules/{m}/genid/{g}/sign                  -> {"digest": base64}
    POST /modules/{m}/genid/{g}/certificate/server    -> 201 {privateKey, certificate, expiration}
    POST /modules/{m}/certificate/identity            -> 201, the same
    GET  /modules                                     -> {"modules": [...]}

HTTP/1.1, small and strict: bounded head and body, one socket for each module, so
that the socket says who asks. Another module's name is 404, as is another
generation. The key never leaves the runtime. Source: the workload API of IoT
Edge, version 2020-07-07.
"""

import asyncio
import base64
import binascii
import contextlib
import datetime
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sanderling.edge.certificates import GatewayCa
from sanderling.edge.identities import ModuleIdentity
from sanderling.edge.layout import Layout
from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.iot import sas

_log = logging.getLogger(__name__)

_MAX_HEAD_BYTES = 16 * 1024
_MAX_BODY_BYTES = 256 * 1024
_IDLE_S = 60.0
_AT_ONCE = 10
_STATUS: dict[type[SanderlingError], int] = {NotFound: 404, Invalid: 400, Denied: 403, Conflict: 409, Unavailable: 503}
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    body: bytes
    keep_alive: bool


class WorkloadApi:
    """Serves one socket for each module that was added. Use within `running`."""

    def __init__(
        self,
        layout: Layout,
        ca: GatewayCa,
        trust_bundle: Callable[[], str],
        find_identity: Callable[[str], ModuleIdentity | None],
        gateway_names: tuple[str, ...],
    ) -> None:
        self._layout = layout
        self._ca = ca
        self._trust_bundle = trust_bundle
        self._find_identity = find_identity
        self._gateway_names = gateway_names
        self._servers: dict[str, asyncio.Server] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close all sockets at the end, and remove those that an earlier, killed runtime left."""
        for left in self._layout.folder("workload").glob("*/workload.sock"):
            left.unlink(missing_ok=True)
        try:
            yield
        finally:
            for name in list(self._servers):
                await self.remove(name)

    async def ensure(self, name: str) -> Path:
        """Serve module *name*; return the folder with its `workload.sock`."""
        folder = self._layout.folder("workload", name.replace(".", "%2E"))
        if name not in self._servers:
            listening = _listen(folder)
            gate = asyncio.Semaphore(_AT_ONCE)

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                async with gate:
                    await self._connection(name, reader, writer)

            self._servers[name] = await asyncio.start_unix_server(serve, sock=listening, limit=_MAX_HEAD_BYTES)
        return folder

    async def remove(self, name: str) -> None:
        """Stop serving module *name*."""
        server = self._servers.pop(name, None)
        if server is not None:
            server.close()
            (self._layout.folder("workload", name.replace(".", "%2E")) / "workload.sock").unlink(missing_ok=True)

    async def _connection(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                try:
                    async with asyncio.timeout(_IDLE_S):
                        request = await _read_request(reader)
                    if request is None:
                        break
                    status, answer = await asyncio.to_thread(self._answer, name, request)
                except SanderlingError as e:
                    request, status = None, _STATUS.get(type(e), 400)
                    answer = {"message": e.message}
                writer.write(_response(status, answer, keep_alive=request is not None and request.keep_alive))
                await writer.drain()
                if request is None or not request.keep_alive:
                    break
        except (TimeoutError, OSError):
            pass  # the module went away, or says nothing
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, name: str, request: _Request) -> tuple[int, dict[str, Any]]:
        try:
            return self._route(name, request)
        except SanderlingError as e:
            return _STATUS.get(type(e), 400), {"message": e.message}

    def _route(self, name: str, request: _Request) -> tuple[int, dict[str, Any]]:
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        match (request.method, parts):
            case ("GET", ["trust-bundle"]):
                return 200, {"certificate": self._trust_bundle()}
            case ("GET", ["modules"]):
                return 200, {"modules": [{"name": name}]}
            case ("POST", ["modules", module, "genid", generation, "sign"]):
                identity = self._identity(name, module, generation)
                return 200, {"digest": _sign(identity, request.body)}
            case ("POST", ["modules", module, "genid", generation, "certificate", "server"]):
                identity = self._identity(name, module, generation)
                return 201, self._certificate(identity, list(self._gateway_names))
            case ("POST", ["modules", module, "certificate", "identity"]):
                return 201, self._certificate(self._identity(name, module, None), [module.lower()])
        raise NotFound(f"the workload API has no {request.method} {request.path[:100]!r}")

    def _identity(self, name: str, module: str, generation: str | None) -> ModuleIdentity:
        identity = self._find_identity(name)
        if identity is None or module != name or generation not in (None, identity.generation_id):
            raise NotFound(f"module {module[:140]!r} of this generation is not served on this socket")
        return identity

    def _certificate(self, identity: ModuleIdentity, names: list[str]) -> dict[str, Any]:
        issued = self._ca.issue(identity.module_id, names, datetime.datetime.now(datetime.UTC), days=90)
        return {
            "privateKey": {"type": "key", "bytes": issued.key},
            "certificate": issued.certificate + self._ca.pem,
            "expiration": issued.expires_at.isoformat().replace("+00:00", "Z"),
        }


def _listen(folder: Path) -> socket.socket:
    """Return a listening socket `workload.sock`; the folder is open to nobody else, so the socket may be to all.

    Bound through the folder's descriptor: a socket's path has at most 107 characters.
    """
    path = folder / "workload.sock"
    path.unlink(missing_ok=True)
    folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(f"/proc/self/fd/{folder_fd}/workload.sock")
        listening.setblocking(False)
        folder.chmod(0o755)
        path.chmod(0o666)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(folder_fd)
    return listening


def _sign(identity: ModuleIdentity, body: bytes) -> str:
    try:
        document = json.loads(body)
        data = base64.b64decode(document["data"], validate=True)
        algorithm, key_id = document.get("algo", "HMACSHA256"), document.get("keyId", "primary")
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as e:
        raise Invalid("the sign request is not {keyId, algo, data: base64}") from e
    if algorithm != "HMACSHA256" or key_id not in ("primary", "secondary"):
        raise Invalid("sign knows the algorithm HMACSHA256 and the keys primary and secondary")
    key = identity.primary_key if key_id == "primary" else identity.secondary_key
    return base64.b64encode(sas.sign(key, data)).decode()


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as e:
        raise Invalid("the request's head is too long") from e
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or words[0] not in ("GET", "POST"):
        raise Invalid("the request is not GET or POST in HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        header, colon, value = line.partition(":")
        if not colon or not header or header.strip() != header or header.lower() in headers:
            raise Invalid("the request has a header that is malformed or given twice")
        headers[header.lower()] = value.strip()
    if "transfer-encoding" in headers:
        body = await _read_chunked(reader, headers)
    else:
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            raise Invalid(f"the request's body has at most {_MAX_BODY_BYTES} bytes")
        try:
            body = await reader.readexactly(int(length))
        except asyncio.IncompleteReadError:
            return None
    keep_alive = words[2] == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return _Request(words[0], urlsplit(words[1]).path, body, keep_alive)


async def _read_chunked(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    # RFC 9112, section 7.1; extensions and trailers are not needed here.
    if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
        raise Invalid("the request's body is neither of a known length nor chunked")
    body = bytearray()
    try:
        while True:
            line = (await reader.readuntil(b"\r\n"))[:-2]
            if not line or len(line) > 8 or any(c not in b"0123456789abcdefABCDEF" for c in line):
                raise Invalid("the request has a broken chunk")
            size = int(line, 16)
            if len(body) + size > _MAX_BODY_BYTES:
                raise Invalid(f"the request's body has at most {_MAX_BODY_BYTES} bytes")
            body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise Invalid("the request has a broken chunk")
            if not size:
                return bytes(body)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
        raise Invalid("the request has a broken chunk") from e


def _response(status: int, answer: dict[str, Any], *, keep_alive: bool) -> bytes:
    body = json.dumps(answer).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
    )
    return head.encode() + body
