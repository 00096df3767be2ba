"""The Docker Engine API over its socket: requests, errors, versions. Podman's socket speaks it too."""

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from sanderling.edge.engines.unix_sockets import unix_transport
from sanderling.errors import Conflict, Invalid, NotFound, SanderlingError, Unavailable

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_WANTED = (1, 41)  # Docker 20.10, the first that knows `host-gateway`
_ERRORS: Mapping[int, type[SanderlingError]] = {400: Invalid, 404: NotFound, 409: Conflict}
_MAX_ANSWER_BYTES = 32 * 1024 * 1024


class DockerApi:
    """One daemon. *host* is as in DOCKER_HOST: `unix:///path` or `tcp://host:port`."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or _DEFAULT_HOST
        parts = urlsplit(self.host)
        if parts.scheme == "unix":
            transport = unix_transport(parts.path)
            self._http = httpx.AsyncClient(transport=transport, base_url="http://docker", timeout=30.0)
        elif parts.scheme in ("tcp", "http") and parts.netloc:
            self._http = httpx.AsyncClient(base_url=f"http://{parts.netloc}", timeout=30.0)
        else:
            raise Invalid(f"DOCKER_HOST={self.host[:100]!r} is not unix:///path or tcp://host:port")
        self._prefix = ""

    async def connect(self) -> None:
        """Find out which version to speak; raise `Unavailable` when nobody answers."""
        document = await self.get("/version")
        lowest, highest = (_version(document.get(name)) for name in ("MinAPIVersion", "ApiVersion"))
        if highest < _WANTED:
            raise Unavailable(f"Docker at {self.host} is too old: API {highest[0]}.{highest[1]}, 1.41 is needed")
        chosen = max(lowest, _WANTED)
        self._prefix = f"/v{chosen[0]}.{chosen[1]}"

    async def get(self, path: str, **query: str) -> Any:
        """Return the JSON at *path*."""
        response = await self._send("GET", path, query)
        return _json(response)

    async def get_bytes(self, path: str, **query: str) -> bytes:
        """Return the bytes at *path*."""
        return (await self._send("GET", path, query)).content

    async def post(self, path: str, body: Any = None, timeout_s: float = 30.0, **query: str) -> Any:
        """Send *body* as JSON and return the answer, None when it is empty."""
        response = await self._send("POST", path, query, json=body, timeout=timeout_s)
        return _json(response) if response.content else None

    async def delete(self, path: str, **query: str) -> None:
        """Delete *path*."""
        await self._send("DELETE", path, query, timeout=60.0)

    async def upload(self, path: str, content: AsyncIterator[bytes], **query: str) -> bytes:
        """Send a tar and return what is answered."""
        headers = {"Content-Type": "application/x-tar"}
        timeout = httpx.Timeout(600.0, connect=10.0)
        return (await self._send("POST", path, query, content=content, headers=headers, timeout=timeout)).content

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, query: Mapping[str, str], **more: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, self._prefix + path, params=query, **more)
        except (httpx.HTTPError, OSError) as e:
            raise Unavailable(f"Docker at {self.host} does not answer: {e or type(e).__name__}") from e
        if response.status_code >= 400:
            raise _ERRORS.get(response.status_code, Unavailable)(f"Docker: {_message(response)}")
        if len(response.content) > _MAX_ANSWER_BYTES:
            raise Unavailable(f"Docker at {self.host} answered with too much")
        return response


def _version(text: object) -> tuple[int, int]:
    major, _, minor = str(text or "1.24").partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (1, 24)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as e:
        raise Unavailable("what answers on Docker's socket is not Docker") from e


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return f"answered {response.status_code}"
