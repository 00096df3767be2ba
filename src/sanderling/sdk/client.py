"""One connection to a server: requests out, our own errors back.

- Every failure is an error of `sanderling.errors`; nothing of httpx gets out.
- A refused connection is tried again for every call, a connection that broke
  for calls that may be repeated (GET, HEAD, PUT, DELETE).
- The token travels in a header, to this server only: redirects are not followed.
- Uploads and downloads stream; nothing holds a file in memory.
"""

import hashlib
import os
import ssl
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.sdk.hints import hinted
from sanderling.sdk.wire import Progress, endpoint

CHUNK_BYTES = 1 << 20
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
RETRY_DELAYS_S = (0.2, 0.6)

ERROR_BY_STATUS: dict[int, type[SanderlingError]] = {
    400: Invalid,
    401: Denied,
    403: Denied,
    404: NotFound,
    405: Invalid,
    409: Conflict,
    412: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Unavailable,
}


class Client:
    """Speaks HTTPS with one server.

    Args:
        url: The server's address, `https://host:port`. Plain http is accepted for this machine only.
        token: The bearer token, or None for the few calls that need none.
        ca_file: The CA that signed the server's certificate; None means the system's.
        timeout_s: How long to wait for the server on any one read, write or connect.
        transport: Replaces the network, for use inside the server's own process.

    Raises:
        Invalid: The URL or the CA file cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca_file: Path | str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = check_url(url)
        self.timeout_s = timeout_s
        self.ca_file = None if ca_file is None else Path(ca_file)
        verify = _tls_context(ca_file) if transport is None and self.url.startswith("https") else False
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, verify=verify, timeout=timeout_s, transport=transport, trust_env=False
        )
        # A client that is simply forgotten, as in a notebook, leaves no open connection either.
        weakref.finalize(self, self._http.close)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str | int | bool | None] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        repeatable: bool | None = None,
    ) -> Any:
        """Send one request and return the JSON of its answer, or None when there is no body.

        Args:
            method: The HTTP method.
            path: The path on the server; build it with `endpoint`.
            body: Sent as JSON unless None.
            params: Query parameters; those that are None are left out.
            headers: More headers.
            timeout_s: Replaces the client's timeout, for calls that wait on the server.
            repeatable: Whether a call whose answer was lost may be sent again; None means by the method.

        Returns:
            The parsed JSON.

        Raises:
            SanderlingError: One of the tree, by the status that the server answered.
        """
        response = self._send(
            method,
            path,
            body=body,
            params=_query(params),
            headers=headers,
            timeout_s=timeout_s,
            repeatable=method in REPEATABLE if repeatable is None else repeatable,
        )
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise Unavailable(f"{self.url}{path} did not answer with JSON; is that a Sanderling server?") from error

    def has_blob(self, workspace: str, digest: str) -> bool:
        """Tell whether the server holds these bytes already."""
        try:
            self._send("HEAD", endpoint("api", "v1", "workspaces", workspace, "blobs", digest))
        except NotFound:
            return False
        return True

    def put_blob(self, workspace: str, digest: str, path: Path, size: int, progress: Progress | None = None) -> None:
        """Send one file, unless the server has its bytes already.

        Args:
            workspace: The workspace's name.
            digest: `sha256:...` of the file.
            path: The file.
            size: Its size in bytes, as it was when the digest was made.
            progress: Called with the file's name, bytes sent and `size`.

        Raises:
            Invalid: The file changed meanwhile.
        """
        if self.has_blob(workspace, digest):
            if progress:
                progress(path.name, size, size)
            return
        target = endpoint("api", "v1", "workspaces", workspace, "blobs", digest)
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                with _translated(self.url):
                    response = self._http.put(
                        target,
                        content=_chunks(path, size, progress),
                        headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
                        timeout=httpx.Timeout(self.timeout_s, read=300.0),
                    )
                _raise_for(response)
            except Unavailable:
                if delay_s is None:
                    raise
                time.sleep(delay_s)
            else:
                return

    def download(self, path: str, target: Path, *, digest: str, progress: Progress | None = None) -> None:
        """Fetch the bytes at *path* into the file *target*, which appears whole and verified or not at all.

        Args:
            path: The path on the server.
            target: The file to write; its folder is made.
            digest: `sha256:...` that the bytes must have.
            progress: Called with the file's name, bytes so far and bytes in all.

        Raises:
            Invalid: The bytes that came are not the ones promised.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        hasher = hashlib.sha256()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        partial = Path(name)
        try:
            with _translated(self.url), os.fdopen(handle, "wb") as file, self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                _raise_for(response)
                total = int(response.headers.get("Content-Length") or 0)
                done = 0
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    hasher.update(chunk)
                    file.write(chunk)
                    done += len(chunk)
                    if progress:
                        progress(target.name, done, total or done)
                file.flush()
                os.fsync(file.fileno())
            if f"sha256:{hasher.hexdigest()}" != digest:
                raise Invalid(f"{target.name}: the bytes that came do not have the digest {digest}; nothing was kept")
            partial.chmod(0o644)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        repeatable: bool = True,
    ) -> httpx.Response:
        timeout = self.timeout_s if timeout_s is None else timeout_s
        request = self._http.build_request(
            method, path, json=body, params=params, headers=dict(headers or {}), timeout=timeout
        )
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                with _translated(self.url):
                    response = self._http.send(request)
                break
            except Unavailable as error:
                unsent = isinstance(error.__cause__, httpx.ConnectError)
                if delay_s is None or not (unsent or repeatable) or _is_timeout(error):
                    raise
                time.sleep(delay_s)
        _raise_for(response)
        return response


def check_url(url: str) -> str:
    """Return *url* as `scheme://host[:port]`.

    Raises:
        Invalid: It is no such address, or it would send the token unencrypted to another machine.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise hinted(Invalid(f"{url!r} is not an address"), "https://localhost:8443") from error
    if parts.scheme not in ("https", "http") or not host or parts.path not in ("", "/") or parts.username:
        raise hinted(Invalid(f"{url!r} is not the address of a server"), "https://localhost:8443")
    if parts.scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        raise Invalid(f"{url}: the token would travel unencrypted; use https")
    return f"{parts.scheme}://{parts.netloc}"


def _tls_context(ca_file: Path | str | None) -> ssl.SSLContext:
    if ca_file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise hinted(
            Invalid(f"the CA file {ca_file} cannot be used: {error}"), "sanderling init --ca FILE, with the server's CA"
        ) from error


def _query(params: Mapping[str, str | int | bool | None] | None) -> dict[str, str]:
    given = ((key, value) for key, value in (params or {}).items() if value is not None)
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in given}


def _chunks(path: Path, size: int, progress: Progress | None) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            done += len(chunk)
            if done > size:
                break
            yield chunk
            if progress:
                progress(path.name, done, size)
    if done != size:
        raise Invalid(f"{path} changed while it was being sent; send it again")


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn what httpx raises into our errors; the cause keeps the original."""
    try:
        yield
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise hinted(
                Denied(f"{url}: its certificate is not signed by the CA that is known for it"),
                "sanderling init --url URL --ca FILE, with the CA file of that server",
            ) from error
        raise hinted(
            Unavailable(f"no server answers at {url}"), "sanderling up, or another address: sanderling init --url URL"
        ) from error
    except httpx.TimeoutException as error:
        raise Unavailable(f"{url} did not answer in time; try again") from error
    except httpx.TransportError as error:
        broken = Unavailable(f"the connection to {url} broke ({error or type(error).__name__}); try again")
        if url.startswith("http://"):
            hinted(broken, f"https://{url.removeprefix('http://')}, if that is a Sanderling server")
        raise broken from error
    except OSError as error:
        raise Invalid(f"{error.filename or url}: {error.strerror or error}") from error


def _is_timeout(error: Unavailable) -> bool:
    return isinstance(error.__cause__, httpx.TimeoutException) and not isinstance(error.__cause__, httpx.ConnectTimeout)


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    status = response.status_code
    kind = ERROR_BY_STATUS.get(status, Unavailable if status >= 500 else Invalid)
    where = f"{response.request.method} {response.url.path}"
    # An answer to HEAD has no body that could say more.
    silent = (
        "this token is not known here, or has ended" if status == 401 else f"the server answered {status} to {where}"
    )
    error = kind(_message_of(response) or silent)
    if status == 401:
        hinted(error, "sanderling init, to sign in again")
    raise error


def _message_of(response: httpx.Response) -> str | None:
    """The sentence in an answer of our API, or in one of the hub's REST."""
    try:
        body = response.json()
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    inner = body.get("error")
    if isinstance(inner, dict) and isinstance(inner.get("message"), str):
        return str(inner["message"])
    for key in ("Message", "message", "detail"):
        if isinstance(body.get(key), str):
            code, _, rest = body[key].partition(";")
            return (rest or code) if code.startswith("ErrorCode:") else str(body[key])
    return None
