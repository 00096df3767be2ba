"""Speak to a registry: requests with authentication and retries. What is pushed is the matter of `push`.

Source: distribution-spec 1.1; Docker's registry token authentication.
"""

import base64
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.oci import Digest, parse_error_document

ATTEMPTS = 5
TIMEOUT = httpx.Timeout(60, connect=10)
MAX_ANSWER_BYTES = 1 << 20

Body = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class PushTarget:
    """Where an image goes, and who says so: user and password, or a bearer *token*; *ca* is a PEM file.

    The build service fills in *repository* and *tag*. *shown_as* is what people call the registry, when a build
    reaches it at another address than they do.
    """

    registry: str
    repository: str = ""
    tag: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    plain_http: bool = False
    shown_as: str = ""

    @property
    def shown(self) -> str:
        """The registry's `host[:port]` for people."""
        return self.shown_as or self.registry

    def to_json(self) -> dict[str, Any]:
        """All but the secrets."""
        return {
            "registry": self.registry,
            "repository": self.repository,
            "tag": self.tag,
            "ca": str(self.ca) if self.ca else None,
            "plainHttp": self.plain_http,
            "shownAs": self.shown_as,
        }

    def secrets(self) -> dict[str, str]:
        """The secrets alone."""
        pairs = (("username", self.username), ("password", self.password), ("token", self.token))
        return {name: value for name, value in pairs if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], secrets: Mapping[str, str]) -> "PushTarget":
        """Read what `to_json` and `secrets` gave. Raises Invalid."""
        try:
            return cls(
                str(data["registry"]),
                str(data["repository"]),
                str(data["tag"]),
                secrets.get("username"),
                secrets.get("password"),
                secrets.get("token"),
                Path(data["ca"]) if data.get("ca") else None,
                bool(data.get("plainHttp")),
                str(data.get("shownAs") or ""),
            )
        except (KeyError, TypeError) as e:
            raise Invalid(f"the push target cannot be read: {e}") from e


class PushRefused(Invalid):
    """The registry answered *status* to *what*."""

    def __init__(self, registry: str, what: str, status: int, text: str) -> None:
        super().__init__(f"registry {registry}: {what} was refused (HTTP {status}): {text}")
        self.registry, self.status = registry, status


class RegistryClient:
    """Requests to one registry; used by several threads."""

    def __init__(self, target: PushTarget, attempts: int = ATTEMPTS, first_pause_s: float = 0.5) -> None:
        self.target = target
        self._attempts, self._first_pause_s = attempts, first_pause_s
        self.root = f"{'http' if target.plain_http else 'https'}://{target.registry}"
        try:
            verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(target.ca)) if target.ca else True
        except (OSError, ssl.SSLError) as e:
            raise Invalid(f"the CA file {target.ca} for registry {target.registry} cannot be read: {e}") from e
        self._client = httpx.Client(timeout=TIMEOUT, verify=verify, trust_env=target.ca is None)
        self._header: str | None = f"Bearer {target.token}" if target.token else None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def url(self, rest: str) -> str:
        """The address of *rest* in the target's repository."""
        return f"{self.root}/v2/{self.target.repository}/{rest}"

    def send(
        self,
        method: str,
        url: str,
        what: str,
        *,
        expected: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        retry: bool = True,
    ) -> httpx.Response:
        """One request, signed in when the registry asks for it, repeated while it cannot answer (unless not *retry*).

        Raises Denied, NotFound, PushRefused for other answers than *expected*,
        and Unavailable when the registry cannot be reached.
        """
        attempts = self._attempts if retry else 1
        for attempt in range(attempts):
            try:
                response = self._signed_in(method, url, headers or {}, body)
            except httpx.TransportError as e:
                self._pause(attempt, attempts, what, str(e) or type(e).__name__, e)
                continue
            if response.status_code in expected:
                return response
            if response.status_code >= 500 or response.status_code == 429:
                self._pause(attempt, attempts, what, f"HTTP {response.status_code}", None)
                continue
            raise self._refusal(response, what)
        raise AssertionError("_pause raises at the last attempt")

    def _signed_in(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes | None
    ) -> httpx.Response:
        header = self._header
        response = self._once(method, url, headers, body, header)
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return response
        with self._lock:
            if self._header == header:  # no other thread has signed in meanwhile
                self._header = self._sign_in(response.headers.get("www-authenticate", ""))
        return self._once(method, url, headers, body, self._header)

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes | None, header: str | None
    ) -> httpx.Response:
        sent = dict(headers)
        if header is not None and urlsplit(url).netloc == self.target.registry:
            sent["Authorization"] = header
        content = body() if callable(body) else body
        return self._client.request(method, url, headers=sent, content=content)

    def _sign_in(self, challenge: str) -> str:
        target = self.target
        scheme, _, rest = challenge.partition(" ")
        if target.token is not None or target.username is None:
            reason = "the token is not accepted" if target.token else "it asks for a user and a password"
            raise Denied(f"registry {target.registry}: {reason}")
        basic = "Basic " + base64.b64encode(f"{target.username}:{target.password or ''}".encode()).decode()
        if scheme.lower() != "bearer":
            return basic
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = urljoin(self.root, fields.get("realm", ""))
        if not realm.startswith("https://") and not target.plain_http:
            raise Denied(f"registry {target.registry} sends passwords to {realm}, which is not encrypted; refused")
        parameters = {"scope": fields.get("scope") or f"repository:{target.repository}:pull,push"}
        if fields.get("service"):
            parameters["service"] = fields["service"]
        response = self._client.get(realm, params=parameters, headers={"Authorization": basic})
        if response.status_code in (401, 403):
            raise Denied(f"registry {target.registry}: user {target.username!r} or the password is wrong")
        try:
            document = response.json() if len(response.content) <= MAX_ANSWER_BYTES else {}
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError) as e:
            raise Unavailable(f"registry {target.registry}: the sign-in answer is no JSON") from e
        if not isinstance(token, str):
            raise Unavailable(f"registry {target.registry}: the sign-in answered HTTP {response.status_code}, no token")
        return f"Bearer {token}"

    def _refusal(self, response: httpx.Response, what: str) -> SanderlingError:
        registry = self.target.registry
        errors = parse_error_document(response.content)
        text = "; ".join(message or code for code, message in errors) or response.reason_phrase
        match response.status_code:
            case 401:
                return Denied(f"registry {registry}: the user or the password is not accepted for {what}")
            case 403:
                return Denied(f"registry {registry}: no right for {what}: {text}")
            case 404:
                return NotFound(f"registry {registry}: {what}: {text}")
            case 409:
                return Conflict(f"registry {registry}: {what}: {text}")
            case status:
                return PushRefused(registry, what, status, text)

    def _pause(self, attempt: int, attempts: int, what: str, reason: str, cause: Exception | None) -> None:
        if attempt + 1 >= attempts:
            raise Unavailable(f"registry {self.target.registry}: {what} failed: {reason}; is it running?") from cause
        time.sleep(self._first_pause_s * 2**attempt)


def blob_path(digest: Digest) -> str:
    """Where a blob is below its repository."""
    return f"blobs/{digest}"
