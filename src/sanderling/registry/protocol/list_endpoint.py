"""Listings: tags, referrers, catalogue. distribution-spec 1.1, "Content Discovery"; Docker's `_catalog`."""

import asyncio
from typing import Any

from starlette.responses import JSONResponse, Response

from sanderling.oci import canonical_json, media_types
from sanderling.registry.content.listings import Listings
from sanderling.registry.errors import CataloguePageInvalid
from sanderling.registry.protocol.wire import Call, next_page, parse_digest, parse_page
from sanderling.registry.upstream.cache import PullThrough


class ListEndpoint:
    """Answers listings, page by page."""

    def __init__(self, listings: Listings, cache: PullThrough) -> None:
        self._listings, self._cache = listings, cache

    async def tags(self, call: Call) -> Response:
        """Answer the tags of a repository, in the order of their bytes."""
        limit, last = parse_page(call.request)
        names = await asyncio.to_thread(self._listings.tag_names, call.name, last, limit + 1)
        headers = _link(f"/v2/{call.name}/tags/list", names, limit)
        return JSONResponse({"name": call.name, "tags": names[:limit]}, headers=headers)

    async def catalogue(self, call: Call) -> Response:
        """Answer the repositories that the caller may pull."""
        limit, last = parse_page(call.request, CataloguePageInvalid)
        scopes = [scope for scope in call.principal.scopes if scope.actions & {"pull", "list"}]
        names = await asyncio.to_thread(self._listings.repositories, last, limit + 1, scopes)
        return JSONResponse({"repositories": names[:limit]}, headers=_link("/v2/_catalog", names, limit))

    async def referrers(self, call: Call) -> Response:
        """Answer the manifests whose subject this is, as an index; none is an empty one."""
        subject = parse_digest(call.item)
        artifact_type = call.request.query_params.get("artifactType", "").replace("\x00", "")
        _, last = parse_page(call.request)
        found, more = await asyncio.to_thread(self._listings.referrers, call.name, subject, artifact_type[:255], last)
        if not last:
            known = {one["digest"] for one in found}
            there = await self._cache.referrers(call.name, subject)
            found += [one for one in there if one["digest"] not in known and _is_type(one, artifact_type)]
        document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": found}
        headers = {"Content-Type": media_types.OCI_INDEX}
        if artifact_type:
            headers["OCI-Filters-Applied"] = "artifactType"
        if more:
            parameters = {"last": more} | ({"artifactType": artifact_type} if artifact_type else {})
            headers |= next_page(f"/v2/{call.name}/referrers/{subject}", parameters)
        return Response(canonical_json(document), headers=headers)


def _is_type(descriptor: dict[str, Any], artifact_type: str) -> bool:
    return not artifact_type or descriptor.get("artifactType") == artifact_type


def _link(path: str, names: list[str], limit: int) -> dict[str, str]:
    if len(names) <= limit or limit == 0:
        return {}
    return next_page(path, {"n": str(limit), "last": names[limit - 1]})
