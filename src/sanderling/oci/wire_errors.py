"""The error codes of the registry protocol, in one table.

Source: distribution-spec 1.1, "Error Codes": an answer 4xx has one of its codes and no other.
The last two are ours: for Docker's `_catalog`, which the specification does not have, and for answers 5xx.
"""

import json
from collections.abc import Iterable
from enum import Enum, unique
from typing import Any


@unique
class WireError(Enum):
    """A code, the HTTP status it is sent with, and its general message."""

    BLOB_UNKNOWN = (404, "blob unknown to registry")
    BLOB_UPLOAD_INVALID = (400, "blob upload invalid")
    BLOB_UPLOAD_UNKNOWN = (404, "blob upload unknown to registry")
    DIGEST_INVALID = (400, "provided digest did not match uploaded content")
    MANIFEST_BLOB_UNKNOWN = (404, "manifest references a manifest or blob unknown to registry")
    MANIFEST_INVALID = (400, "manifest invalid")
    MANIFEST_UNKNOWN = (404, "manifest unknown to registry")
    NAME_INVALID = (400, "invalid repository name")
    NAME_UNKNOWN = (404, "repository name not known to registry")
    SIZE_INVALID = (400, "provided length did not match content length")
    UNAUTHORIZED = (401, "authentication required")
    DENIED = (403, "requested access to the resource is denied")
    UNSUPPORTED = (405, "the operation is unsupported")
    TOOMANYREQUESTS = (429, "too many requests")
    PAGINATION_NUMBER_INVALID = (400, "invalid number of results requested")
    UNAVAILABLE = (503, "service unavailable, try again later")

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


def error_document(code: WireError, message: str = "", detail: object = None) -> dict[str, Any]:
    """Return the JSON body for *code*; *message* says more than the general one."""
    entry: dict[str, Any] = {"code": code.name, "message": message or code.text}
    if detail is not None:
        entry["detail"] = detail
    return {"errors": [entry]}


def parse_error_document(raw: bytes) -> list[tuple[str, str]]:
    """Return (code, message) of each error in the answer of a registry.

    Never raises: what is not an error document has no errors in it.
    """
    try:
        document = json.loads(raw[:65536])
    except (ValueError, RecursionError):
        return []
    entries = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(entries, Iterable) or isinstance(entries, str | dict):
        return []
    found = [entry for entry in entries if isinstance(entry, dict)][:20]
    return [(str(entry.get("code", "UNKNOWN"))[:100], str(entry.get("message", ""))[:1000]) for entry in found]
