"""Sign in to a registry: none, Basic, or a bearer token from the service that the registry names.

Rules: a password goes to the registry and to the token service that it names,
and to nobody else; never in the open when the registry is https. A token is
asked for once for all requests that wait for it, and again before it expires.

Sources: distribution-spec 1.1, "Authentication"; the distribution project's
token authentication, and its OAuth2 form; RFC 7617.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import httpx

from sanderling.errors import Denied
from sanderling.transfer.challenges import Challenge
from sanderling.transfer.errors import Faulty, Insecure, SignInNeeded, SignInRefused

CLIENT_ID = "sanderling"
_DEFAULT_TTL_S = 60  # the token specification's, where the answer does not say
_EARLY_S = 10.0
_MAX_TTL_S = 24 * 3600
_MAX_TOKEN_CHARS = 64 * 1024
_MAX_SCOPES = 64


@dataclass(frozen=True, slots=True)
class Credential:
    """A user's name and password at one registry; or an *identity_token*, as `docker login` may keep one."""

    username: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Scope:
    """The right to *actions* on one repository; in a request `repository:demo/digits:pull,push`."""

    repository: str
    actions: frozenset[str]

    @classmethod
    def of(cls, repository: str, *actions: str) -> "Scope":
        """Return the scope for *actions*."""
        return cls(repository, frozenset(actions))

    def __str__(self) -> str:
        return f"repository:{self.repository}:{','.join(sorted(self.actions))}"


Scopes = tuple[Scope, ...]
# Sends one request that is not signed, and returns status and bounded body.
Ask = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[tuple[int, bytes]]]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    good_until: float


class SignIn:
    """What is known of signing in to one registry, as one user or nobody."""

    def __init__(
        self,
        registry: str,
        repository: str,
        credential: Credential | None,
        token: str | None,
        ask: Ask,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """*token* is a bearer token that was given from outside: it is used as it is."""
        self._registry, self._repository = registry, repository
        self._credential, self._given, self._ask, self._clock = credential, token, ask, clock
        self._scheme = ""
        self._realm = self._service = ""
        self._wider: dict[Scopes, str] = {}  # what the registry asked for beyond our own scopes
        self._tokens: dict[Scopes, _Token] = {}
        self._lock = asyncio.Lock()

    async def header(self, scopes: Scopes) -> str | None:
        """Return what to send as Authorization with a request that takes *scopes*; None as long as nobody asked."""
        if self._given is not None:
            return f"Bearer {self._given}"
        if self._scheme == "basic":
            return self._basic()
        if self._scheme != "bearer":
            return None
        async with self._lock:
            held = self._tokens.get(scopes)
            if held is None or held.good_until <= self._clock():
                held = self._tokens[scopes] = await self._fetch(scopes)
        return f"Bearer {held.text}"

    async def answer(self, challenges: list[Challenge], scopes: Scopes, sent: str | None, base: str) -> str:
        """Return the Authorization for a request that was refused with *challenges* when *sent* was its header.

        Raises SignInNeeded, SignInRefused, Faulty or Insecure.
        """
        if self._given is not None:
            raise SignInRefused(self._registry, self._repository, None)
        challenge = self._choose(challenges)
        if challenge.scheme == "basic":
            self._scheme = "basic"
            header = self._basic()
            if sent == header:
                raise self._refused()
            return header
        async with self._lock:
            held = self._tokens.get(scopes)
            if held is not None and sent != f"Bearer {held.text}" and held.good_until > self._clock():
                return f"Bearer {held.text}"  # another request has signed in meanwhile
            self._tokens.pop(scopes, None)
            self._realm = self._checked_realm(challenge.parameters.get("realm", ""), base)
            self._service = challenge.parameters.get("service", "")[:1000]
            if "scope" in challenge.parameters:
                self._wider[scopes] = challenge.parameters["scope"][:8000]
            self._scheme = "bearer"
            token = self._tokens[scopes] = await self._fetch(scopes)
        return f"Bearer {token.text}"

    def _choose(self, challenges: list[Challenge]) -> Challenge:
        for scheme in ("bearer", "basic"):
            for challenge in challenges:
                if challenge.scheme == scheme and (scheme == "basic" or challenge.parameters.get("realm")):
                    return challenge
        asked = ", ".join(challenge.scheme[:20] for challenge in challenges[:5]) or "nothing that is known"
        raise Faulty(self._registry, "signing in", f"it asks for {asked}, and neither Bearer nor Basic", 401)

    def _checked_realm(self, realm: str, base: str) -> str:
        try:
            url = urljoin(base, realm)
            parts = urlsplit(url)
            is_whole = bool(parts.hostname) and not parts.username and parts.port != 0
        except ValueError:
            is_whole = False
        if not is_whole:
            raise Faulty(self._registry, "signing in", "the address of its token service cannot be read", 401)
        if parts.scheme != "https" and urlsplit(base).scheme == "https":
            raise Insecure(self._registry, f"{parts.scheme}://{parts.netloc}")
        return url

    def _basic(self) -> str:
        if self._credential is None or self._credential.identity_token:
            raise self._refused()
        pair = f"{self._credential.username}:{self._credential.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def _refused(self) -> Denied:
        if self._credential is None:
            return SignInNeeded(self._registry, self._repository)
        return SignInRefused(self._registry, self._repository, self._credential.username)

    async def _fetch(self, scopes: Scopes) -> _Token:
        words = list(dict.fromkeys([*map(str, scopes), *_scope_words(self._wider.get(scopes, ""))]))
        words = _merged(words)
        status, raw = await self._exchange(words)
        if status in (400, 401, 403) and len(words) > 1:
            # One of several repositories may be closed to us, as the source of a mount: ask for the first alone.
            status, raw = await self._exchange(words[:1])
        if status in (400, 401, 403):
            raise self._refused()
        if status != 200:
            raise Faulty(self._registry, "signing in", f"its token service answered HTTP {status}", status)
        return self._token_in(raw)

    async def _exchange(self, words: list[str]) -> tuple[int, bytes]:
        known = self._credential
        if known is None or not known.identity_token:
            query = [("scope", word) for word in words] + ([("service", self._service)] if self._service else [])
            if known is not None and known.username:
                query.append(("account", known.username))
            joined = f"{self._realm}{'&' if urlsplit(self._realm).query else '?'}{urlencode(query)}"
            headers = {"Authorization": self._basic()} if known is not None else {}
            status, raw = await self._ask("GET", joined, headers, None)
            if known is None or status not in (404, 405, 501):
                return status, raw
        # The OAuth2 form: the only one for identity tokens, and the only one of some servers.
        form = {"client_id": CLIENT_ID, "service": self._service, "scope": " ".join(words)}
        if known.identity_token:
            form |= {"grant_type": "refresh_token", "refresh_token": known.identity_token}
        else:
            form |= {"grant_type": "password", "username": known.username, "password": known.password}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._ask("POST", self._realm, headers, urlencode(form).encode())

    def _token_in(self, raw: bytes) -> _Token:
        try:
            document: Any = json.loads(raw)
        except (ValueError, RecursionError) as e:
            raise Faulty(self._registry, "signing in", "its token service answered no JSON") from e
        fields = document if isinstance(document, dict) else {}
        text = fields.get("token") or fields.get("access_token")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or len(text) > _MAX_TOKEN_CHARS:
            raise Faulty(self._registry, "signing in", "its token service answered without a token")
        ttl = fields.get("expires_in")
        if not isinstance(ttl, int | float) or isinstance(ttl, bool) or not 0 < ttl <= _MAX_TTL_S:
            ttl = _DEFAULT_TTL_S
        return _Token(text, self._clock() + max(ttl - _EARLY_S, ttl / 2))


def is_same_origin(one: str | httpx.URL, other: str | httpx.URL) -> bool:
    """Say whether two URLs have scheme, host and port in common; a default port counts as written."""
    return _origin(one) == _origin(other)


def _origin(url: str | httpx.URL) -> tuple[str, str, int | None]:
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host.lower(), parsed.port or {"https": 443, "http": 80}.get(parsed.scheme)


def _scope_words(text: str) -> list[str]:
    return text.split()[:_MAX_SCOPES]


def _merged(words: Iterable[str]) -> list[str]:
    """Join the actions on the same resource, in order; what is no scope stays as it is."""
    actions: dict[str, list[str]] = {}
    for word in words:
        resource, colon, wanted = word.rpartition(":")
        if not colon:
            actions.setdefault(word, [])
            continue
        held = actions.setdefault(resource, [])
        held += [action for action in wanted.split(",") if action and action not in held]
    return [f"{resource}:{','.join(wanted)}" if wanted else resource for resource, wanted in actions.items()]
