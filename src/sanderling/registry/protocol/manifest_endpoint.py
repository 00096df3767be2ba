"""Manifests: GET, HEAD, PUT, DELETE. distribution-spec 1.1, "Pulling manifests" to "Deleting Manifests"."""

import asyncio
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from sanderling.blobs import BlobNotFound, BlobStore
from sanderling.errors import Invalid
from sanderling.oci import (
    MAX_DOCUMENT_BYTES,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    is_tag,
    media_types,
    parse_manifest,
)
from sanderling.registry.content.content import Content
from sanderling.registry.errors import ManifestInvalid, ManifestNotFound
from sanderling.registry.protocol.wire import Call, accepts, check_tag, is_unchanged, parse_digest, quoted, read_body
from sanderling.registry.upstream.cache import PullThrough

_MAX_TAGS = 100
# A document of 4 MiB takes ten times that while it is parsed.
_KEPT_AT_ONCE = 4


class ManifestEndpoint:
    """Serves manifests byte for byte as they were pushed."""

    def __init__(self, content: Content, blobs: BlobStore, cache: PullThrough) -> None:
        self._content, self._blobs, self._cache = content, blobs, cache
        self._keeping = asyncio.Semaphore(_KEPT_AT_ONCE)

    async def get(self, call: Call) -> Response:
        """Answer GET and HEAD, by tag or digest."""
        if ":" in call.item:
            parse_digest(call.item)
        elif not is_tag(call.item):
            raise ManifestNotFound(call.name, call.item)
        warning = await self._cache.ensure_manifest(call.name, call.item)
        found = await asyncio.to_thread(self._content.find_manifest, call.name, call.item)
        if found is None:
            raise ManifestNotFound(call.name, call.item)
        if not accepts(call.request, found.media_type):
            raise ManifestNotFound(call.name, call.item, f"it is {found.media_type}, which Accept leaves out")
        if call.request.method == "HEAD":  # an index may name it next
            await asyncio.to_thread(self._content.tell_manifest, call.name, found.digest)
        headers = {"Docker-Content-Digest": found.digest, "ETag": f'"{found.digest}"', "Vary": "Accept"}
        if warning:  # RFC 7234, section 5.5.1: "Response is Stale"
            headers["Warning"] = f"110 sanderling {quoted(warning)}"
        if is_unchanged(call.request, found.digest):
            return Response(status_code=304, headers=headers)
        headers |= {"Content-Type": found.media_type, "Content-Length": str(len(found.raw))}
        return Response(b"" if call.request.method == "HEAD" else found.raw, headers=headers)

    async def put(self, call: Call) -> Response:
        """Answer PUT: 201; the manifest is kept when all that it names is here."""
        by_digest = parse_digest(call.item) if ":" in call.item else None
        tags = [check_tag(tag) for tag in (call.request.query_params.getlist("tag") if by_digest else [call.item])]
        if len(tags) > _MAX_TAGS:
            raise ManifestInvalid(f"{len(tags)} tags in one request; {_MAX_TAGS} is the limit")
        raw = await read_body(call.request, MAX_DOCUMENT_BYTES)
        digest = by_digest or Digest.of(raw)
        digest.verify(raw)
        async with self._keeping:
            subject = await self._keep(call, raw, digest, tags)
        response = Response(status_code=201, headers={"Location": f"/v2/{call.name}/manifests/{digest}"})
        response.headers["Docker-Content-Digest"] = digest
        if subject is not None:
            response.headers["OCI-Subject"] = subject
        if by_digest:
            _name_tags(response.headers, tags)
        return response

    async def _keep(self, call: Call, raw: bytes, digest: Digest, tags: list[str]) -> Digest | None:
        """Keep the manifest; return the digest of what it is about, if it says so."""
        try:
            # Not on the loop's thread: a document of 4 MiB takes a while.
            parsed = await asyncio.to_thread(parse_manifest, raw, call.request.headers.get("content-type"))
        except Invalid as e:
            raise ManifestInvalid(e.message) from None
        config = await self._find_config(call.name, parsed)
        await asyncio.to_thread(self._content.put_manifest, call.name, digest, parsed, tags, config)
        return None if parsed.subject is None else parsed.subject.digest

    async def delete(self, call: Call) -> Response:
        """Answer DELETE: a tag goes alone, a digest with the tags that name it."""
        if ":" in call.item:
            await asyncio.to_thread(self._content.delete_manifest, call.name, parse_digest(call.item))
        elif is_tag(call.item):
            await asyncio.to_thread(self._content.delete_tag, call.name, call.item)
        else:
            raise ManifestNotFound(call.name, call.item)
        return Response(status_code=202)

    async def _find_config(self, repository: str, parsed: Manifest | Index) -> ImageConfig | None:
        """Return the config of an image, for what is listed of it; None for an artifact."""
        if isinstance(parsed, Index) or parsed.config.media_type not in media_types.CONFIGS:
            return None
        digest = parsed.config.digest
        info = await asyncio.to_thread(self._content.find_blob, repository, digest)
        if info is None or info.size > MAX_DOCUMENT_BYTES:
            return None
        # A config that cannot be read is the client's affair: the registry keeps what it is given.
        with suppress(Invalid, BlobNotFound):
            return ImageConfig.parse(b"".join([piece async for piece in self._blobs.open(digest)]))
        return None


def _name_tags(headers: MutableHeaders, tags: list[str]) -> None:
    for tag in tags:
        headers.append("OCI-Tag", tag)
