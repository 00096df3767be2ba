"""Speaks the OCI distribution protocol, reading only.

Rules: HTTPS, except to registries that were named as plain; credentials go to
the registry they are for and to the token service it names, never along a
redirect to another host; answers are bounded; every error says what the user
can do. Source: distribution-spec 1.1; for tokens, the distribution project's
token authentication.
"""

import base64
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx

from sanderling.edge.trouble import why_unreachable
from sanderling.errors import Denied, Invalid, NotFound, Unavailable
from sanderling.iot import RegistryCredential
from sanderling.oci import Digest, Reference, media_types

_MAX_MANIFEST_BYTES = 4 * 1024 * 1024
_MAX_TOKEN_BYTES = 1024 * 1024
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_CHALLENGE = re.compile(r'([a-zA-Z]+)="((?:[^"\\]|\\.)*)"')
_PIECE = 256 * 1024


class RegistryClient:
    """One registry, as one user, for one repository's pull. Use as an async context manager."""

    def __init__(
        self,
        reference: Reference,
        credential: RegistryCredential | None,
        tls: ssl.SSLContext,
        *,
        is_plain_http: bool = False,
    ) -> None:
        self._reference = reference
        self._credential = credential
        # Docker's own name for its registry differs from where it answers.
        host = "registry-1.docker.io" if reference.registry == "docker.io" else reference.registry
        self._base = f"{'http' if is_plain_http else 'https'}://{host}"
        self._authorization: str | None = None
        self._http = httpx.AsyncClient(verify=tls, timeout=_TIMEOUT, follow_redirects=False)

    async def __aenter__(self) -> "RegistryClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def fetch_manifest(self, name: str) -> tuple[bytes, str]:
        """Return the raw manifest or index *name* (tag or digest) and its media type."""
        url = f"{self._base}/v2/{self._reference.repository}/manifests/{name}"
        async with self._get(url, {"Accept": media_types.ACCEPT_ANY_IMAGE}) as response:
            if response.status_code == 404:
                raise NotFound(f"image {self._reference} was not found in the registry; was it pushed there?")
            self._check(response)
            raw = await _read(response, _MAX_MANIFEST_BYTES, "manifest")
            return raw, response.headers.get("content-type", "")

    @asynccontextmanager
    async def open_blob(self, digest: Digest, start: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Yield (where the bytes begin, the bytes) of a blob from *start*; 0 when the registry knows no ranges."""
        url = f"{self._base}/v2/{self._reference.repository}/blobs/{digest}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with self._get(url, headers) as response:
            if response.status_code == 404:
                raise NotFound(f"image {self._reference}: the registry lacks its content {digest}; push it again")
            if response.status_code == 416:
                raise Invalid(f"image {self._reference}: the registry's content {digest} is shorter than it promised")
            self._check(response)
            begins = 0
            if response.status_code == 206:
                found = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
                begins = int(found[1]) if found else start
            try:
                # In the pieces in which it comes: what was received before a cut is kept.
                yield begins, response.aiter_raw()
            except httpx.HTTPError as e:
                raise self._unavailable(e) from e

    @asynccontextmanager
    async def _get(self, url: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """Send GET, sign in when asked to, follow redirects without taking credentials along."""
        for _ in range(2):
            async with self._send(url, headers | self._sign()) as response:
                if response.status_code != 401:
                    if response.is_redirect:
                        async with self._follow(response, headers) as redirected:
                            yield redirected
                    else:
                        yield response
                    return
                challenge = response.headers.get("www-authenticate", "")
                had_authorization = self._authorization is not None
            if had_authorization and not challenge.lower().startswith("bearer"):
                break
            self._authorization = await self._answer(challenge)
        raise self._denied()

    @asynccontextmanager
    async def _follow(self, response: httpx.Response, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        for _ in range(5):
            target = response.url.join(response.headers.get("location", ""))
            if response.url.scheme == "https" and target.scheme != "https":
                raise Invalid(f"the registry {self._reference.registry} sends us from https to {target.scheme}")
            same = (target.scheme, target.netloc) == (response.url.scheme, response.url.netloc)
            async with self._send(str(target), headers | (self._sign() if same else {})) as following:
                if not following.is_redirect:
                    yield following
                    return
                response = following
        raise Invalid(f"the registry {self._reference.registry} redirects without end")

    @asynccontextmanager
    async def _send(self, url: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        try:
            request = self._http.build_request("GET", url, headers={"Accept-Encoding": "identity", **headers})
            response = await self._http.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise self._unavailable(e) from e
        try:
            yield response
        finally:
            await response.aclose()

    def _sign(self) -> dict[str, str]:
        return {"Authorization": self._authorization} if self._authorization else {}

    async def _answer(self, challenge: str) -> str:
        """Return the Authorization header for what the registry asked with 401."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if self._credential is None:
                raise self._denied()
            return _basic(self._credential)
        if scheme.lower() != "bearer":
            raise Unavailable(
                f"the registry {self._reference.registry} asks for {scheme[:20]!r}, which is not known here"
            )
        fields = dict(_CHALLENGE.findall(rest))
        realm = urlsplit(fields.get("realm", ""))
        if realm.scheme not in ("https", urlsplit(self._base).scheme) or not realm.netloc:
            raise Invalid(f"the registry {self._reference.registry} names a token service that is not https")
        scope = fields.get("scope") or f"repository:{self._reference.repository}:pull"
        query = {"scope": scope} | ({"service": fields["service"]} if "service" in fields else {})
        headers = {"Authorization": _basic(self._credential)} if self._credential else {}
        url = httpx.URL(fields["realm"]).copy_merge_params(query)
        async with self._send(str(url), headers) as response:
            if response.status_code in (401, 403):
                raise self._denied()
            self._check(response)
            raw = await _read(response, _MAX_TOKEN_BYTES, "token")
        return f"Bearer {_token_in(raw, self._reference.registry)}"

    def _check(self, response: httpx.Response) -> None:
        if response.status_code in (200, 206):
            return
        if response.status_code in (401, 403):
            raise self._denied()
        raise Unavailable(f"the registry {self._reference.registry} answered {response.status_code}; it is tried again")

    def _denied(self) -> Denied:
        registry = self._reference.registry
        if self._credential is None:
            return Denied(
                f"the registry {registry} asks for credentials for {self._reference}, and the manifest has none: "
                f"add registryCredentials with the address {registry}"
            )
        return Denied(
            f"the registry {registry} refused the credentials of user {self._credential.username!r} for "
            f"{self._reference}: look at the user name and password in the manifest's registryCredentials"
        )

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"the registry {self._reference.registry} cannot be reached: {why_unreachable(error)}")


def _basic(credential: RegistryCredential) -> str:
    # RFC 7617, section 2.
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _token_in(raw: bytes, registry: str) -> str:
    try:
        document = json.loads(raw)
    except ValueError as e:
        raise Unavailable(f"the token service of {registry} answered no JSON") from e
    token = document.get("token") or document.get("access_token") if isinstance(document, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise Unavailable(f"the token service of {registry} answered without a token")
    return token


async def _read(response: httpx.Response, limit: int, what: str) -> bytes:
    content = bytearray()
    try:
        async for piece in response.aiter_raw(_PIECE):
            content += piece
            if len(content) > limit:
                raise Invalid(f"the registry's {what} is larger than {limit} bytes")
    except httpx.HTTPError as e:
        raise Unavailable(f"the registry's {what} was cut: {e or type(e).__name__}") from e
    return bytes(content)
