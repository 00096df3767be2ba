"""An upstream's repository, spoken to within bounds; its failures become the registry's words.

- Every question has a time limit, and MAX_QUESTIONS are asked at a time. A question that was answered "no" lately, or
  an upstream that could not be reached lately, is not asked again at once
  (`Troubles`).
- A client is kept for the requests that follow each other in a pull, for
  IDLE_S: they share its connections and its token.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sanderling.errors import Denied, Invalid, NotFound, SanderlingError
from sanderling.oci import Descriptor, Digest, DigestMismatch
from sanderling.registry.errors import (
    ManifestNotFound,
    UpstreamDamaged,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from sanderling.registry.upstream.rules import Upstream
from sanderling.registry.upstream.troubles import Troubles
from sanderling.transfer import Credential, Faulty, Patience, RegistryClient, Unreachable

log = logging.getLogger(__name__)

QUESTION_S = 30.0
IDLE_S = 15.0
MAX_QUESTIONS = 32
# One attempt: what is tried again is tried again by the client, or by the download.
_PATIENCE = Patience(attempts=1)

Spawn = Callable[[Coroutine[Any, Any, None]], object]


@dataclass(frozen=True, slots=True)
class Place:
    """A repository here, and what it stands for."""

    repository: str
    upstream: Upstream
    remote: str

    @property
    def source(self) -> str:
        """What it is called there, for messages."""
        return f"{self.upstream.registry}/{self.remote}"


@dataclass(slots=True)
class _Held:
    client: RegistryClient
    users: int = 0
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)


class Origins:
    """The upstreams of one process. *spawn* runs what outlives a request."""

    def __init__(self, troubles: Troubles, spawn: Spawn) -> None:
        self.troubles, self._spawn = troubles, spawn
        self._held: dict[tuple[Upstream, str], _Held] = {}
        self._turns = asyncio.Semaphore(MAX_QUESTIONS)

    async def find_manifest(self, place: Place, reference: str, within_s: float | None = None) -> Descriptor | None:
        """Return what *reference* points at there, or None; raise what `SanderlingError`s the table below has."""
        async with self._asking(place, None, within_s or QUESTION_S), self._client(place) as client:
            return await client.find_manifest(reference)

    async def fetch_manifest(self, place: Place, reference: str, within_s: float | None = None) -> tuple[bytes, str]:
        """Return the manifest, verified, and its media type; `ManifestNotFound` when it is not there either."""
        async with self._asking(place, ("manifest", reference), within_s or QUESTION_S), self._client(place) as client:
            return await client.fetch_manifest(reference)

    async def has_blob(self, place: Place, digest: Digest) -> bool:
        """Say whether the upstream's repository has the blob."""
        async with self._asking(place, None, QUESTION_S), self._client(place) as client:
            return await client.has_blob(digest)

    async def referrers(self, place: Place, digest: Digest, within_s: float) -> list[Descriptor]:
        """Return what refers to *digest* there."""
        async with self._asking(place, ("referrers", digest), within_s), self._client(place) as client:
            return await client.referrers(digest)

    @asynccontextmanager
    async def open_blob(
        self, place: Place, digest: Digest, start: int
    ) -> AsyncGenerator[tuple[int, AsyncIterator[bytes]], None]:
        """Yield (where the bytes begin, the bytes). A cut of them says nothing of the upstream as a whole."""
        async with AsyncExitStack() as stack:
            async with self._asking(place, ("blob", digest), QUESTION_S):
                client = await stack.enter_async_context(self._client(place))
                opened = await stack.enter_async_context(client.open_blob(digest, start))
            try:
                yield opened
            except (UpstreamUnavailable, UpstreamRefused):
                raise
            except SanderlingError as e:
                raise _translated(place, digest, e) from e

    @asynccontextmanager
    async def _asking(
        self, place: Place, question: tuple[str, str] | None, within_s: float
    ) -> AsyncGenerator[None, None]:
        """Bound a question, and remember how it went. Raises ManifestNotFound and the errors of upstreams."""
        key = (place.upstream, place.remote, *question) if question else None
        self.troubles.check(place.upstream, key)
        try:
            async with asyncio.timeout(within_s), self._turns:
                yield
        except TimeoutError as e:
            error: SanderlingError = _unavailable(place, f"it did not answer within {within_s:.0f} seconds")
            self._remember(place, key, error, is_away=True)
            raise error from e
        except SanderlingError as e:
            error = _translated(place, question[1] if question else "", e)
            # A fault that it answers with may be of this question alone; the others are still asked.
            self._remember(place, key, error, is_away=key is None or isinstance(e, Unreachable))
            raise error from e
        if self.troubles.find(place.upstream):
            log.warning("upstream %s (%s) answers again", place.upstream.name, place.upstream.registry)
        self.troubles.succeeded(place.upstream)

    def _remember(self, place: Place, key: Hashable, error: SanderlingError, *, is_away: bool) -> None:
        is_limited = isinstance(error, UpstreamLimited)
        if (
            isinstance(error, UpstreamUnavailable)
            and not isinstance(error, UpstreamDamaged)
            and (is_away or is_limited)
        ):
            if not self.troubles.find(place.upstream):
                log.warning("%s", error.message)
            self.troubles.failed(place.upstream, error)
        elif key is not None:
            self.troubles.answered(key, error)

    @asynccontextmanager
    async def _client(self, place: Place) -> AsyncGenerator[RegistryClient, None]:
        key = (place.upstream, place.remote)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(_client_of(place))
            self._spawn(self._keep(key, held))
        held.users += 1
        held.is_idle.clear()
        try:
            yield held.client
        finally:
            held.users -= 1
            if held.users == 0:
                held.is_idle.set()

    async def _keep(self, key: tuple[Upstream, str], held: _Held) -> None:
        """Close the client when nobody has used it for a while."""
        async with held.client:
            while True:
                await held.is_idle.wait()
                await asyncio.sleep(IDLE_S)
                if held.users == 0:
                    del self._held[key]
                    return


def _client_of(place: Place) -> RegistryClient:
    upstream = place.upstream
    return RegistryClient(
        "docker.io" if upstream.is_docker_hub else upstream.registry,
        place.remote,
        Credential(upstream.username, upstream.password) if upstream.username else None,
        tls=upstream.tls_context(),
        is_plain_http=upstream.is_plain_http,
        patience=_PATIENCE,
    )


def _translated(place: Place, reference: str, error: SanderlingError) -> SanderlingError:
    """Return *error* of the client in our words, by what the one who pulls can do."""
    upstream, registry = place.upstream.name, place.upstream.registry
    match error:
        case UpstreamUnavailable() | UpstreamRefused() | ManifestNotFound():
            return error
        case Faulty(status=429):
            return UpstreamLimited(
                upstream, registry, "it has had too many of our requests (HTTP 429)", error.retry_after_s
            )
        case NotFound():
            return ManifestNotFound(place.repository, reference, f"{place.source} does not have it either")
        case Denied():
            return UpstreamRefused(upstream, registry, error.message)
        case DigestMismatch() | Invalid():
            return UpstreamDamaged(upstream, registry, f"what it sent cannot be used: {error.message}")
        case _:
            return _unavailable(place, error.message)


def _unavailable(place: Place, why: str) -> UpstreamUnavailable:
    return UpstreamUnavailable(place.upstream.name, place.upstream.registry, why)
