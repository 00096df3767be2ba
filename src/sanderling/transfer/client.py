"""The client of a registry: manifests, blobs, tags, referrers of one repository.

Source: distribution-spec 1.1; for what each call raises, `sanderling.transfer.errors`.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx

from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.oci import (
    MAX_DOCUMENT_BYTES,
    Descriptor,
    Digest,
    DigestMismatch,
    Hasher,
    Index,
    Manifest,
    is_tag,
    media_types,
    parse_manifest,
)
from sanderling.transfer.errors import BlobNotFound, Faulty, LengthMismatch, ManifestNotFound, Refused, RightMissing
from sanderling.transfer.exchange import Exchange, Patience, pull_scope, push_scope
from sanderling.transfer.sign_in import Credential
from sanderling.transfer.upload import OpenFrom, Upload

MAX_TAGS = 1_000_000
_MAX_PAGES = 10_000
_MAX_REFERRERS = 10_000
_CUTS = 3  # in a row, none of which brought anything


class _PastTheEnd(Invalid):
    """The content ends before the byte that was asked for."""


class RegistryClient:
    """One repository of one registry, as one user or as nobody. Use as an async context manager.

    One object serves many requests at once. A credential is sent only when the
    registry asks for it, and only there.
    """

    def __init__(
        self,
        registry: str,
        repository: str,
        credential: Credential | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        is_plain_http: bool | None = False,
        token: str | None = None,
        patience: Patience | None = None,
        uses_proxy: bool = True,
    ) -> None:
        """Speak to *registry* (`host[:port]`, `docker.io`).

        *tls* says whom to trust; None means the system. *is_plain_http* None
        means https, or http for a loopback registry that knows no TLS. *token*
        is a bearer token that is used as it is, instead of *credential*.
        """
        self.registry, self.repository = registry, repository
        self._exchange = Exchange(
            registry,
            repository,
            credential,
            tls=tls,
            is_plain_http=is_plain_http,
            token=token,
            patience=patience or Patience(),
            uses_proxy=uses_proxy,
        )
        self._upload = Upload(self._exchange)
        self._noting = asyncio.Lock()  # each referrer changes one list, where the registry keeps none

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    async def fetch_manifest(self, reference: str, accept: str = media_types.ACCEPT_ANY_IMAGE) -> tuple[bytes, str]:
        """Return manifest or index *reference* (tag or digest) as sent, and its media type.

        The bytes are checked against the digest that was asked for, or that the
        registry says they have. Raises ManifestNotFound, and DigestMismatch.
        """
        what = f"fetching the manifest {reference}"
        async with self._manifest("GET", reference, what, accept) as response:
            raw = await self._exchange.read(response, what, MAX_DOCUMENT_BYTES)
        promised = _digest_in(response)
        if ":" in reference:
            Digest.parse(reference).verify(raw)
        elif promised is not None:
            promised.verify(raw)
        return raw, response.headers.get("content-type", "")

    async def find_manifest(self, reference: str, accept: str = media_types.ACCEPT_ANY_IMAGE) -> Descriptor | None:
        """Return what *reference* (tag or digest) points at, or None. Its media type is what the registry says."""
        what = f"asking for the manifest {reference}"
        try:
            async with self._manifest("HEAD", reference, what, accept) as response:
                digest, length = _digest_in(response), response.headers.get("content-length", "")
                media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        except ManifestNotFound:
            return None
        if ":" in reference:
            digest = Digest.parse(reference)
        if digest is None or not _is_number(length) or not media_type:  # an older registry: the content says it all
            try:
                raw, media_type = await self.fetch_manifest(reference, accept)
            except ManifestNotFound:
                return None
            digest, length = digest or Digest.of(raw), str(len(raw))
        media_type = media_type.partition(";")[0].strip() or media_types.OCI_MANIFEST
        return Descriptor.from_json({"mediaType": media_type, "digest": str(digest), "size": int(length)})

    @asynccontextmanager
    async def open_blob(self, digest: Digest, start: int = 0) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Yield (where the bytes begin, the bytes) of a blob from *start*; 0 when the registry knows no ranges.

        Nothing is verified, and a cut raises `Unavailable` in the middle: `stream_blob` does more.
        Raises BlobNotFound, and `Invalid` when *start* is past the end.
        """
        what = f"fetching {digest}"
        async with self._exchange.request(
            "GET",
            self._exchange.url(f"blobs/{digest}"),
            what,
            expected=(200, 206, 404, 416),
            scopes=pull_scope(self.repository),
            headers={"Range": f"bytes={start}-"} if start else {},
        ) as response:
            if response.status_code == 404:
                raise BlobNotFound(self.registry, self.repository, digest)
            if response.status_code == 416:
                raise _PastTheEnd(f"registry {self.registry}: the content {digest} is shorter than {start} bytes")
            begins = 0
            if response.status_code == 206:
                found = re.match(r"bytes ([0-9]{1,19})-", response.headers.get("content-range", ""))
                begins = int(found[1]) if found else start
                if begins > start:
                    raise Faulty(self.registry, what, f"byte {start} was asked for, and byte {begins} came")
            yield begins, self._exchange.pieces(response, what)

    async def stream_blob(
        self, descriptor: Descriptor, start: int = 0, *, verify: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a blob from *start*; a cut connection is taken up where it was.

        Raises LengthMismatch when there is more or less than was promised; and,
        when it began at 0, DigestMismatch after the last piece, unless *verify* is
        off because the receiver does that itself.
        """
        hasher = Hasher(descriptor.digest.algorithm)
        position, failures, verifies = start, 0, verify and start == 0
        while position < descriptor.size or position == 0:
            before = position
            try:
                async with self.open_blob(descriptor.digest, position) as (begins, pieces):
                    passed = position - begins  # what we have already and the registry sends again
                    async for piece in pieces:
                        fresh = piece[passed:] if passed else piece
                        passed = max(0, passed - len(piece))
                        position += len(fresh)
                        if verifies:
                            hasher.update(fresh)
                        if position > descriptor.size:
                            raise LengthMismatch(what=descriptor.digest, expected=descriptor.size, actual=position)
                        if fresh:
                            yield fresh
                if position < descriptor.size:
                    raise Faulty(self.registry, f"fetching {descriptor.digest}", f"it ended at byte {position}")
                break
            except _PastTheEnd:
                raise LengthMismatch(what=descriptor.digest, expected=descriptor.size, actual=position) from None
            except Unavailable:
                failures = 0 if position > before else failures + 1
                if failures >= _CUTS:
                    raise
        if verifies and (actual := hasher.digest()) != descriptor.digest:
            raise DigestMismatch(expected=descriptor.digest, actual=actual)

    async def has_blob(self, digest: Digest) -> bool:
        """Say whether the repository has the blob."""
        return await self._upload.has(digest)

    async def push_blob(
        self,
        digest: Digest,
        size: int,
        open_from: OpenFrom,
        mount_from: str | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Send a blob, or have it mounted from the repository *mount_from*; return how many bytes were sent.

        *open_from* opens the content at an offset; it may be called again, when
        a connection breaks. The content is verified on its way: one that is not
        what *digest* says raises DigestMismatch and is not completed there.
        *progress* gets the bytes that are through so far, which may fall when
        a part has to be sent again. Does not ask first whether the blob is there.
        """
        return await self._upload.push(digest, size, open_from, mount_from, progress)

    async def push_small_blob(self, digest: Digest, raw: bytes) -> int:
        """Send a blob that is in memory, in one request where the registry takes it so; return the bytes sent."""
        if await self._upload.push_whole(digest, raw):
            return len(raw)

        async def opened(start: int) -> AsyncGenerator[bytes, None]:
            yield raw[start:]

        return await self.push_blob(digest, len(raw), opened)

    async def push_manifest(self, reference: str, raw: bytes, media_type: str) -> Digest:
        """Give the repository a manifest or index under *reference* (tag or digest); return its digest."""
        what = f"the manifest {reference}"
        digest = Digest.parse(reference) if ":" in reference else Digest.of(raw)
        digest.verify(raw)
        async with self._exchange.request(
            "PUT",
            self._exchange.url(f"manifests/{quote(reference, safe=':')}"),
            what,
            expected=(201, 200, 202),
            scopes=push_scope(self.repository),
            headers={"Content-Type": media_type},
            body=raw,
        ) as response:
            stored, knows_subject = _digest_in(response), "oci-subject" in response.headers
        if stored is not None and stored.algorithm == digest.algorithm and stored != digest:
            raise Faulty(self.registry, what, f"it was stored as {stored}, and is {digest}")
        if not knows_subject:
            await self._note_referrer(raw, media_type)
        return digest

    async def tags(self) -> AsyncIterator[str]:
        """Yield the tags of the repository, page after page. Raises `NotFound`; `Invalid` past a million."""
        what, count = "listing the tags", 0
        async for document in self._pages(self._exchange.url("tags/list?n=1000"), what):
            names = document.get("tags") or []
            if not isinstance(names, list):
                raise Faulty(self.registry, what, "the answer has no list of tags")
            for name in names:
                count += 1
                if count > MAX_TAGS:
                    raise Invalid(f"{self.registry}/{self.repository} has more than {MAX_TAGS} tags")
                if isinstance(name, str) and is_tag(name):
                    yield name

    async def referrers(self, digest: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Return the manifests whose subject is *digest*: signatures, SBOMs, attestations.

        A registry without the API is asked for the tag that clients keep there
        instead (distribution-spec 1.1, "Unavailable Referrers API").
        """
        what = f"listing the referrers of {digest}"
        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        found: list[Descriptor] = []
        try:
            async for document in self._pages(self._exchange.url(f"referrers/{digest}{query}"), what):
                found += _descriptors(document)
                if len(found) > _MAX_REFERRERS:
                    raise Invalid(f"{digest} in {self.registry}/{self.repository} has over {_MAX_REFERRERS} referrers")
        except (NotFound, Refused, RightMissing):
            found = await self._referrers_by_tag(digest)
        return [one for one in found if not artifact_type or one.artifact_type == artifact_type]

    async def _referrers_by_tag(self, digest: Digest) -> list[Descriptor]:
        try:
            raw, _ = await self.fetch_manifest(_referrers_tag(digest), media_types.OCI_INDEX)
            return list(Index.parse(raw).manifests)
        except (NotFound, Invalid):
            return []

    async def _note_referrer(self, raw: bytes, media_type: str) -> None:
        """Add a manifest to its subject's list of referrers, where the registry keeps none itself."""
        pushed = parse_manifest(raw, media_type)
        if pushed.subject is None:
            return
        subject, artifact_type = pushed.subject.digest, pushed.artifact_type
        if not artifact_type and isinstance(pushed, Manifest):
            artifact_type = pushed.config.media_type
        async with self._noting:
            listed = await self._referrers_by_tag(subject)
            if any(one.digest == pushed.digest for one in listed):
                return
            entry = replace(pushed.descriptor(), annotations=pushed.annotations, artifact_type=artifact_type)
            index = Index.build([*listed, entry])
            await self.push_manifest(_referrers_tag(subject), index.raw, index.media_type)

    async def _pages(self, url: str, what: str) -> AsyncIterator[dict[str, Any]]:
        for _ in range(_MAX_PAGES):
            async with self._exchange.request(
                "GET", url, what, expected=(200, 404), scopes=pull_scope(self.repository)
            ) as response:
                if response.status_code == 404:
                    raise NotFound(f"the registry {self.registry} has no repository {self.repository}, or no such list")
                raw = await self._exchange.read(response, what)
                following = _next_of(response)
            try:
                document = json.loads(raw)
            except (ValueError, RecursionError) as e:
                raise Faulty(self.registry, what, "the answer is no JSON") from e
            if not isinstance(document, dict):
                raise Faulty(self.registry, what, "the answer is no JSON object")
            yield document
            if following is None:
                return
            url = str(following)
        raise Faulty(self.registry, what, "its pages have no end")

    @asynccontextmanager
    async def _manifest(self, method: str, reference: str, what: str, accept: str) -> AsyncIterator[httpx.Response]:
        async with self._exchange.request(
            method,
            self._exchange.url(f"manifests/{quote(reference, safe=':')}"),
            what,
            expected=(200, 404),
            scopes=pull_scope(self.repository),
            headers={"Accept": accept},
        ) as response:
            if response.status_code == 404:
                raise ManifestNotFound(self.registry, self.repository, reference)
            yield response


def _digest_in(response: httpx.Response) -> Digest | None:
    try:
        return Digest.parse(response.headers["docker-content-digest"])
    except (KeyError, Invalid):
        return None


def _referrers_tag(digest: Digest) -> str:
    # distribution-spec 1.1, "Referrers Tag Schema": the encoded part is cut off at 64 characters.
    return f"{digest.algorithm}-{digest.hex[:64]}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _next_of(response: httpx.Response) -> httpx.URL | None:
    """Return the next page's address (RFC 8288); it must be of the same origin, for it is asked with our rights."""
    link = response.links.get("next", {}).get("url")
    if not link:
        return None
    try:
        target = response.url.join(link)
    except httpx.InvalidURL:
        return None
    return target if target.host == response.url.host and target.scheme == response.url.scheme else None


def _descriptors(document: dict[str, Any]) -> list[Descriptor]:
    entries = document.get("manifests")
    return [Descriptor.from_json(entry) for entry in entries] if isinstance(entries, list) else []
