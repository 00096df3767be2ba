"""One request to a registry: signed in when it asks, redirected, repeated while it cannot answer.

Rules: https, save for registries that were named as plain, and loopback ones that
know no TLS; a credential goes to the registry's own origin and never along a
redirect to another; from https nothing follows to http; what a peer may send is
bounded; what is worth a second try gets one, after a pause that the registry may
name (`Retry-After`). Source: distribution-spec 1.1; RFC 9110.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import NoReturn

import httpx

from sanderling.errors import Conflict, Invalid, SanderlingError
from sanderling.oci import parse_error_document
from sanderling.transfer.challenges import parse_challenges
from sanderling.transfer.errors import (
    Faulty,
    Insecure,
    Missing,
    NotTrusted,
    Refused,
    RightMissing,
    SignInNeeded,
    SignInRefused,
    Unreachable,
)
from sanderling.transfer.handshakes import close_cancelled
from sanderling.transfer.sign_in import Credential, Scope, Scopes, SignIn, is_same_origin

Body = Callable[[], AsyncIterator[bytes]]

MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_REDIRECTS = 5
MAX_PAUSE_S = 60.0
# A registry may hash, or send to a store of its own, what it has received before it answers.
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
FINISH_TIMEOUT = httpx.Timeout(300.0, connect=10.0)
_MAX_ERROR_BYTES = 64 * 1024
_MAX_TOKEN_BYTES = 1024 * 1024
_SIGN_INS = 2  # once because it asks, once because the token has ended meanwhile
_WORTH_A_RETRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is made, and how long the first pause is; each next one is twice as long."""

    attempts: int = 5
    first_pause_s: float = 0.5

    def pause_s(self, attempt: int) -> float:
        """Return the pause after *attempt* (from 0), a little off so that many clients do not come at once."""
        return min(self.first_pause_s * float(2**attempt) * random.uniform(0.8, 1.2), MAX_PAUSE_S)


NO_PATIENCE = Patience(1)


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that may be made several times."""

    method: str
    url: str
    what: str
    scopes: Scopes
    headers: Mapping[str, str]
    body: Body | bytes | None
    timeout: httpx.Timeout


class Exchange:
    """Requests to one registry for one repository, as one user. Close it with `aclose`."""

    def __init__(
        self,
        registry: str,
        repository: str,
        credential: Credential | None,
        *,
        tls: ssl.SSLContext | None,
        is_plain_http: bool | None,
        token: str | None,
        patience: Patience,
        uses_proxy: bool,
    ) -> None:
        """*is_plain_http*: None means https, or http where a loopback registry knows no TLS."""
        self.registry, self.repository = registry, repository
        # Docker's own name for its registry differs from where it answers.
        host = _DOCKER_HUB.get(registry, registry)
        self.base = f"{'http' if is_plain_http else 'https'}://{host}"
        self._may_fall_back = is_plain_http is None and is_loopback(registry)
        self._fell_back = False
        self.patience = patience
        self._username = credential.username if credential is not None and token is None else None
        self._is_anonymous = credential is None and token is None
        self._is_met, self._meeting = False, asyncio.Lock()
        self._sign_in = SignIn(registry, repository, credential, token, self._ask)
        trust_env = uses_proxy and not is_loopback(registry)
        try:
            self._http = close_cancelled(
                httpx.AsyncClient(
                    verify=tls or _system_trust(), timeout=TIMEOUT, follow_redirects=False, trust_env=trust_env
                )
            )
        except (ValueError, ImportError) as e:
            raise Invalid(f"the proxy settings of the environment cannot be used: {e}") from e

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def url(self, rest: str) -> str:
        """Return the address of *rest* in the repository."""
        return f"{self.base}/v2/{self.repository}/{rest}"

    def location(self, response: httpx.Response) -> str:
        """Return where *response* sends us on, absolute; raises Insecure, Faulty."""
        try:
            target = response.url.join(response.headers.get("location", ""))
        except httpx.InvalidURL as e:
            raise Faulty(self.registry, "following its answer", "it sends us to an address that is none") from e
        if target.scheme not in ("http", "https"):
            raise Faulty(self.registry, "following its answer", f"it sends us to {target.scheme[:20]!r}")
        if response.url.scheme == "https" and target.scheme == "http":
            if target.host != response.url.host:
                raise Insecure(self.registry, f"http://{target.netloc.decode()}")
            # Behind a relay that ends TLS a registry may not know that it is https: its own name is reached as before.
            port = response.url.port if target.port in (None, 80) else target.port
            target = target.copy_with(scheme="https", port=port)
        return str(target.copy_with(username=None, password=None))

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        what: str,
        *,
        expected: tuple[int, ...],
        scopes: Scopes,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        patience: Patience | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Yield the answer, one of *expected*; its body is not read yet. *what* names the request in errors.

        *body* is opened anew for each try. Raises what `sanderling.transfer.errors` lists.
        """
        call = _Call(method, url, what, scopes, headers or {}, body, timeout or TIMEOUT)
        response = await self._obtain(call, expected, patience or self.patience)
        try:
            yield response
        finally:
            await response.aclose()

    async def pieces(self, response: httpx.Response, what: str) -> AsyncIterator[bytes]:
        """Yield the body as it comes, so that what came before a cut can be kept. Raises Unreachable."""
        try:
            async for piece in response.aiter_raw():
                yield piece
        except httpx.HTTPError as e:
            raise Unreachable(self.registry, what, f"the answer was cut: {e or type(e).__name__}") from e

    async def read(self, response: httpx.Response, what: str, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """Return the whole body. Raises Unreachable, and Invalid past *limit* bytes."""
        content = bytearray()
        async for piece in self.pieces(response, what):
            content += piece
            if len(content) > limit:
                raise Invalid(f"registry {self.registry}: the answer to {what} is larger than {limit} bytes; refused")
        return bytes(content)

    async def _obtain(self, call: _Call, expected: tuple[int, ...], patience: Patience) -> httpx.Response:
        attempt = 0
        while True:
            is_last = attempt + 1 >= patience.attempts
            try:
                response = await self._introduced(call)
            except httpx.HTTPError as e:
                if self._falls_back(e):
                    call = replace(call, url=call.url.replace("https://", "http://", 1))
                    continue
                if is_last or _is_certificate(e):
                    self._raise_unreachable(e, call.what)
                pause_s = patience.pause_s(attempt)
            except httpx.InvalidURL as e:
                raise Faulty(self.registry, call.what, f"the address {call.url[:200]!r} cannot be used: {e}") from e
            else:
                if response.status_code in expected:
                    return response
                error = await self._error(response, call.what)
                if is_last or not isinstance(error, Faulty) or error.retry_after_s > MAX_PAUSE_S:
                    raise error
                pause_s = max(patience.pause_s(attempt), error.retry_after_s)
            attempt += 1
            await asyncio.sleep(pause_s)

    async def _introduced(self, call: _Call) -> httpx.Response:
        """Send; until the registry has answered once, one request at a time.

        So it is found out once, and not by all at once, whether it is there, is
        trusted, speaks TLS, and how to sign in.
        """
        if self._is_met:
            return await self._signed_in(call)
        async with self._meeting:
            if self._fell_back and call.url.startswith("https://"):
                call = replace(call, url=call.url.replace("https://", "http://", 1))  # found out while we waited
            response = await self._signed_in(call)
            self._is_met = True
            return response

    async def _signed_in(self, call: _Call) -> httpx.Response:
        """Send, and sign in when asked to; another answer than 401, or an error."""
        is_ours = is_same_origin(call.url, self.base)
        header = await self._sign_in.header(call.scopes) if is_ours else None
        for _ in range(_SIGN_INS):
            response = await self._redirected(call, header)
            if response.status_code != 401 or not is_same_origin(response.url, self.base):
                return response
            text = await self._text(response)
            challenges = parse_challenges(response.headers.get_list("www-authenticate"))
            before, header = header, await self._sign_in.answer(challenges, call.scopes, header, self.base)
            if before is not None and before == header:
                break
        else:
            response = await self._redirected(call, header)
            if response.status_code != 401:
                return response
            text = await self._text(response)
        # The token service knows us, and yet what it gave is not enough.
        if self._is_anonymous:
            raise SignInNeeded(self.registry, self.repository)
        if header is not None and header.startswith("Basic"):
            raise SignInRefused(self.registry, self.repository, self._username)
        raise RightMissing(self.registry, self.repository, call.what, text)

    async def _redirected(self, call: _Call, header: str | None) -> httpx.Response:
        url = call.url
        for _ in range(MAX_REDIRECTS + 1):
            sent = {"Accept-Encoding": "identity", "User-Agent": "sanderling", **call.headers}
            if header is not None and is_same_origin(url, self.base):
                sent["Authorization"] = header
            content = call.body() if callable(call.body) else call.body
            request = self._http.build_request(call.method, url, headers=sent, content=content, timeout=call.timeout)
            try:
                response = await self._http.send(request, stream=True)
            finally:
                if isinstance(content, AsyncGenerator):  # it may hold a file, and was not read to its end
                    await content.aclose()
            # A blob may be kept elsewhere; what is sent to us is not: only 307 and 308 keep the method.
            follows = response.status_code in (307, 308) or (
                response.status_code in (301, 302, 303) and call.method in ("GET", "HEAD")
            )
            if not follows or "location" not in response.headers:
                return response
            await response.aclose()
            url = self.location(response)
        raise Refused(self.registry, "following its redirects", response.status_code, "they have no end")

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> tuple[int, bytes]:
        """Ask the token service, which may be another host than the registry."""
        what = "signing in"

        async def once() -> tuple[int, bytes]:
            sent = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
            request = self._http.build_request(method, url, headers=sent, content=content)
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code in _WORTH_A_RETRY:
                    raise await self._error(response, what)
                return response.status_code, await self.read(response, what, _MAX_TOKEN_BYTES)
            finally:
                await response.aclose()

        return await self._patiently(once, what)

    async def _patiently(self, once: Callable[[], Awaitable[tuple[int, bytes]]], what: str) -> tuple[int, bytes]:
        for attempt in range(self.patience.attempts):
            is_last = attempt + 1 >= self.patience.attempts
            try:
                return await once()
            except Faulty as e:
                asked_s = e.retry_after_s
                if is_last or asked_s > MAX_PAUSE_S:
                    raise
            except (httpx.HTTPError, httpx.InvalidURL) as e:
                asked_s = 0.0
                if is_last or _is_certificate(e) or isinstance(e, httpx.InvalidURL):
                    self._raise_unreachable(e, what)
            await asyncio.sleep(max(self.patience.pause_s(attempt), asked_s))
        raise AssertionError("the last attempt returns or raises")

    def _falls_back(self, error: httpx.HTTPError) -> bool:
        """Turn to http, once, when a loopback registry has answered TLS with something else."""
        if not self._may_fall_back or not isinstance(error, httpx.ConnectError | httpx.ReadError):
            return False
        text = str(error)
        if not any(sign in text for sign in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure")):
            return False
        self._may_fall_back, self._fell_back = False, True
        self.base = self.base.replace("https://", "http://", 1)
        return True

    async def _text(self, response: httpx.Response) -> str:
        """Return what an error's body says, and close it."""
        try:
            raw = await self.read(response, "an error", _MAX_ERROR_BYTES)
        except SanderlingError:
            raw = b""
        finally:
            await response.aclose()
        errors = parse_error_document(raw)
        said = "; ".join(message or code for code, message in errors) or response.reason_phrase
        return "".join(c for c in said if c.isprintable())[:500] or f"HTTP {response.status_code}"

    async def _error(self, response: httpx.Response, what: str) -> SanderlingError:
        status, text = response.status_code, await self._text(response)
        named = f"{what} in {self.repository}"
        if status in _WORTH_A_RETRY or status >= 500:
            return Faulty(self.registry, named, f"HTTP {status}: {text}", status, _retry_after_s(response))
        if not is_same_origin(response.url, self.base):
            return Faulty(self.registry, named, f"HTTP {status} from {response.url.host}, where it sent us", status)
        if status == 403:
            return RightMissing(self.registry, self.repository, what, text)
        if status < 400:
            return Faulty(self.registry, named, f"HTTP {status} was not expected", status)
        if status == 404:
            return Missing(self.registry, named, text)
        if status == 409:
            return Conflict(f"registry {self.registry}: {named}: {text}")
        return Refused(self.registry, named, status, text)

    def _raise_unreachable(self, error: Exception, what: str) -> NoReturn:
        detail = str(error) or type(error).__name__
        if _is_certificate(error):
            raise NotTrusted(self.registry, what, detail) from error
        if "WRONG_VERSION_NUMBER" in detail or "record layer failure" in detail:
            detail = "it does not speak TLS: name it as plain http if that is meant"
        raise Unreachable(self.registry, what, detail) from error


def pull_scope(repository: str) -> Scopes:
    """What a read takes."""
    return (Scope.of(repository, "pull"),)


def push_scope(repository: str, mount_from: str | None = None) -> Scopes:
    """What a write takes; who mounts reads from the other repository."""
    scopes = (Scope.of(repository, "pull", "push"),)
    return (*scopes, Scope.of(mount_from, "pull")) if mount_from and mount_from != repository else scopes


def is_loopback(registry: str) -> bool:
    """Say whether *registry* (`host[:port]`) is this machine, by its name alone."""
    host = registry.partition("]")[0].removeprefix("[") if registry.startswith("[") else registry.partition(":")[0]
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1)
def _system_trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _is_certificate(error: Exception) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _retry_after_s(response: httpx.Response) -> float:
    """Return what `Retry-After` asks for in seconds; 0 when it says nothing that can be read."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0
