"""Upstreams that are given at the start: `hub=docker.io`, or a TOML file.

[hub]                                # what its repositories here begin with
registry = "docker.io"
username = "ci"                      # both or neither
password_file = "hub.secret"         # beside this file, or anywhere
ttl = 3600                           # seconds
only = ["library/*"]
mirror = true
shared = true
plain_http = false
ca_file = "ca.pem"
enabled = true
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sanderling.errors import Invalid
from sanderling.registry.upstream.rules import DEFAULT_TTL_S, Upstream

_MAX_FILE_BYTES = 1024 * 1024
_KINDS: dict[str, tuple[type, ...]] = {
    "registry": (str,),
    "username": (str,),
    "password_file": (str,),
    "ttl": (int, float),
    "only": (list,),
    "mirror": (bool,),
    "shared": (bool,),
    "plain_http": (bool,),
    "ca_file": (str,),
    "enabled": (bool,),
}


def parse_upstream(text: str) -> Upstream:
    """Return the upstream of `NAME=REGISTRY`; raise `Invalid`."""
    name, equals, registry = text.partition("=")
    if not equals:
        raise Invalid(f"{text[:100]!r} is no upstream: NAME=REGISTRY is expected, such as hub=docker.io")
    return Upstream(name, registry)


def read_upstreams(file: Path) -> tuple[Upstream, ...]:
    """Return the upstreams that *file* lists; raise `Invalid` with the place that is wrong."""
    try:
        document = tomllib.loads(_read(file, file))
    except tomllib.TOMLDecodeError as e:
        raise Invalid(f"{file} is not TOML: {e}") from e
    return tuple(_upstream(file, name, fields) for name, fields in document.items())


def _upstream(file: Path, name: str, fields: object) -> Upstream:
    if not isinstance(fields, Mapping):
        raise Invalid(f"{file}: {name!r} is no table: [{name}] and then registry = ... are expected")
    for key, value in fields.items():
        if key not in _KINDS:
            raise Invalid(f"{file}: [{name}] has no {key!r}: {', '.join(_KINDS)} are known")
        if not isinstance(value, _KINDS[key]) or (isinstance(value, bool) and bool not in _KINDS[key]):
            raise Invalid(f"{file}: [{name}] {key} cannot be {value!r}")
    only = fields.get("only", [])
    if "registry" not in fields or not all(isinstance(pattern, str) for pattern in only):
        raise Invalid(f"{file}: [{name}] needs registry = HOST[:PORT], and only = [PATTERN, ...] holds text")
    upstream = Upstream(
        name=name,
        registry=fields["registry"],
        username=fields.get("username", ""),
        password=_beside(file, name, "password_file", fields).removesuffix("\n").removesuffix("\r"),
        ttl_s=float(fields.get("ttl", DEFAULT_TTL_S)),
        is_plain_http=fields.get("plain_http", False),
        ca_pem=_beside(file, name, "ca_file", fields),
        is_enabled=fields.get("enabled", True),
        is_mirror=fields.get("mirror", False),
        is_shared=fields.get("shared", False),
        only=tuple(only),
    )
    upstream.tls_context()  # a CA that cannot be read is told now
    return upstream


def _beside(file: Path, name: str, key: str, fields: Mapping[str, Any]) -> str:
    return _read(file.parent / fields[key], file, f": [{name}] {key}") if key in fields else ""


def _read(path: Path, file: Path, what: str = "") -> str:
    try:
        with path.open("rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as e:
        where = f"{file}{what}: " if path != file else ""
        raise Invalid(f"{where}{path} cannot be read ({getattr(e, 'strerror', None) or 'not text'})") from e
    if len(content) > _MAX_FILE_BYTES:
        raise Invalid(f"{file}{what}: {path} is larger than {_MAX_FILE_BYTES} bytes")
    return text
