"""Twins: sections of properties that are patched, versioned and bounded.

Rules: a patch follows RFC 7396 (null deletes); each change of a section makes its version one greater; ``$version``
and ``$metadata`` are the hub's and are taken out of what a caller sends; limits are settings, because the public
hub's 32 KiB are too small for a deployment of many modules.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sanderling.errors import Invalid

Json = dict[str, Any]
_OURS = ("$version", "$metadata")


@dataclass(frozen=True, slots=True)
class TwinLimits:
    """What one section may hold. Sizes are bytes of compact JSON; the defaults are larger than the public hub's."""

    section_bytes: int = 1024 * 1024
    tags_bytes: int = 64 * 1024
    string_bytes: int = 64 * 1024
    key_bytes: int = 1024
    depth: int = 10
    max_integer: int = 2**53


@dataclass(frozen=True, slots=True)
class Section:
    """Desired or reported properties at one version. *metadata* says when each property changed."""

    values: Json = field(default_factory=dict)
    version: int = 1
    metadata: Json = field(default_factory=dict)

    def patched(self, patch: Mapping[str, Any], stamp: str) -> "Section":
        """Return the next version with *patch* merged in, changed at *stamp* (RFC 3339)."""
        clean = without_ours(patch)
        version = self.version + 1
        return Section(merge(self.values, clean), version, _touch(self.metadata, clean, stamp, version))

    def replaced(self, values: Mapping[str, Any], stamp: str) -> "Section":
        """Return the next version with exactly *values*."""
        clean = merge({}, without_ours(values))
        version = self.version + 1
        return Section(clean, version, _touch({}, clean, stamp, version))

    def to_device_json(self) -> Json:
        """What a device sees: the values and ``$version``."""
        return {**self.values, "$version": self.version}

    def to_service_json(self) -> Json:
        """What the service API shows: the values, ``$metadata`` and ``$version``."""
        return {**self.values, "$metadata": self.metadata, "$version": self.version}


def merge(document: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
    """Return *document* with *patch* merged in (RFC 7396): objects merge, null deletes, all else replaces."""
    merged = dict(document)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
    """Return the patch that turns *before* into *after*."""
    patch: Json = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if below := difference(old, value):
                patch[name] = below
        elif name not in before or type(old) is not type(value) or old != value:
            patch[name] = value
    return patch


def without_ours(values: Mapping[str, Any]) -> Json:
    """Return *values* without the hub's own keys."""
    return {name: value for name, value in values.items() if name not in _OURS}


def check(what: str, values: Mapping[str, Any], limits: TwinLimits, *, limit_bytes: int | None = None) -> None:
    """Raise Invalid when *values* breaks a limit; *what* names the section in the message.

    For a patch, check the merged section: the size counts there.
    """
    _check_below(what, values, limits, 1)
    limit_bytes = limits.section_bytes if limit_bytes is None else limit_bytes
    size_bytes = len(json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode(errors="replace"))
    if size_bytes > limit_bytes:
        raise Invalid(f"{what!r} has {size_bytes} bytes; the limit is {limit_bytes}")


def _check_below(where: str, value: Any, limits: TwinLimits, depth: int) -> None:
    if isinstance(value, Mapping):
        if depth > limits.depth:
            raise Invalid(f"{where!r} is nested deeper than {limits.depth} levels")
        for name, below in value.items():
            _check_key(where, name, limits)
            _check_below(f"{where}.{name[:60]}", below, limits, depth + 1)
    elif isinstance(value, list):
        if depth > limits.depth:
            raise Invalid(f"{where!r} is nested deeper than {limits.depth} levels")
        for below in value:
            _check_below(where, below, limits, depth + 1)
    elif isinstance(value, str):
        if len(value) > limits.string_bytes or len(value.encode(errors="replace")) > limits.string_bytes:
            raise Invalid(f"the text at {where!r} is over the limit of {limits.string_bytes} bytes")
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > limits.max_integer:
        raise Invalid(f"the number at {where!r} is over the limit of {limits.max_integer}")
    elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise Invalid(f"the number at {where!r} is not finite")


def _check_key(where: str, name: str, limits: TwinLimits) -> None:
    if not name or len(name.encode(errors="replace")) > limits.key_bytes:
        raise Invalid(f"a key in {where!r} is empty or over the limit of {limits.key_bytes} bytes")
    if any(c in ".$ " or ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in name):
        raise Invalid(f"the key {name[:60]!r} in {where!r} holds a dot, a dollar, a space or a control character")


def _touch(metadata: Mapping[str, Any], patch: Mapping[str, Any], stamp: str, version: int) -> Json:
    touched: Json = {**metadata, "$lastUpdated": stamp, "$lastUpdatedVersion": version}
    for name, value in patch.items():
        if value is None:
            touched.pop(name, None)
        else:
            below = touched.get(name, {})
            touched[name] = _touch(below, value if isinstance(value, Mapping) else {}, stamp, version)
            if not isinstance(value, Mapping):
                touched[name] = {"$lastUpdated": stamp, "$lastUpdatedVersion": version}
    return touched
