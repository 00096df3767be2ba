"""Shared access signatures: a resource and an expiry, signed with a key.

    SharedAccessSignature sr={resource}&sig={signature}&se={unix seconds}[&skn={policy}]

Rules: the signature covers the *encoded* ``sr`` exactly as it was received, so it is never decoded and encoded anew;
fields come in any order; the host in ``sr`` is not compared (a hub is reached under many names), its path is; keys are
compared in constant time; a token is never part of an error message.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, unquote_to_bytes

from sanderling.errors import Denied, Invalid

_PREFIX = "SharedAccessSignature "
_MAX_TOKEN_CHARS = 4096


class TokenMalformed(Denied):
    """What was presented is no shared access signature."""


class TokenExpired(Denied):
    """The token's time is over, or the clock of one side is wrong."""

    def __init__(self, *, expired_at: int, now: float) -> None:
        super().__init__(f"the token expired {now - expired_at:.0f} s ago; sign a new one, and compare the clocks")
        self.expired_at, self.now = expired_at, now


class WrongScope(Denied):
    """The token is for another resource."""

    def __init__(self, *, scope: str, resource: str) -> None:
        super().__init__(f"the token is for {scope or 'the whole hub'!r}, and does not cover {resource!r}")
        self.scope, self.resource = scope, resource


class WrongSignature(Denied):
    """No key of the identity made this signature."""


@dataclass(frozen=True, slots=True)
class SasToken:
    """A parsed token. *resource* is decoded; *signed_resource* is the text that the signature covers."""

    resource: str
    expires_at: int
    policy: str | None
    signed_resource: str = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """The resource without its host: ``devices/d1/modules/m1``, or empty for the whole hub."""
        return self.resource.partition("/")[2].strip("/")


def build(resource: str, key: str, expires_at: int, policy: str | None = None) -> str:
    """Return a token for *resource* (``host/devices/d1``), signed with the base64 *key*.

    Raises Invalid when the key is not base64.
    """
    return assemble(resource, sign(key, string_to_sign(resource, expires_at)), expires_at, policy)


def string_to_sign(resource: str, expires_at: int) -> bytes:
    """Return the bytes that a token's signature covers, for a signer that keeps the key to itself."""
    return f"{quote(resource, safe='')}\n{expires_at}".encode()


def assemble(resource: str, signature: bytes, expires_at: int, policy: str | None = None) -> str:
    """Return the token for *signature*, which was made over `string_to_sign`."""
    encoded = quote(base64.b64encode(signature).decode(), safe="")
    token = f"{_PREFIX}sr={quote(resource, safe='')}&sig={encoded}&se={expires_at}"
    return token if policy is None else f"{token}&skn={quote(policy, safe='')}"


def sign(key: str, data: bytes) -> bytes:
    """Return the HMAC-SHA256 of *data* under the base64 *key*. Raises Invalid when the key is not base64."""
    try:
        secret = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("the shared access key is not base64; copy it again from the connection string") from error
    return hmac.new(secret, data, hashlib.sha256).digest()


def parse(text: str) -> SasToken:
    """Read a token. Raises TokenMalformed."""
    if len(text) > _MAX_TOKEN_CHARS or not text.startswith(_PREFIX):
        raise TokenMalformed("what was presented is not a shared access signature")
    fields: dict[str, str] = {}
    for part in text[len(_PREFIX) :].strip().split("&"):
        name, equals, value = part.partition("=")
        if not equals or name in fields:
            raise TokenMalformed("a shared access signature has a field without a value, or the same field twice")
        fields[name] = value
    try:
        expires_at = fields["se"]
        if not (expires_at.isascii() and expires_at.isdigit() and len(expires_at) <= 15):
            raise TokenMalformed("a shared access signature's expiry is not a number of seconds")
        return SasToken(
            resource=unquote(fields["sr"]),
            expires_at=int(expires_at),
            policy=unquote(fields["skn"]) if fields.get("skn") else None,
            signed_resource=fields["sr"],
            signature=base64.b64decode(unquote_to_bytes(fields["sig"]), validate=True),
        )
    except KeyError as error:
        raise TokenMalformed(f"a shared access signature lacks its field {error.args[0]}") from error
    except (binascii.Error, ValueError) as error:
        raise TokenMalformed("a shared access signature's signature is not base64") from error


def verify(token: SasToken, keys: Iterable[str], *, resource_path: str, now: float) -> None:
    """Return when *token* is signed by one of *keys*, covers *resource_path* and is not expired at *now*.

    *resource_path* has no host: ``devices/d1/modules/m1``; empty for what only a policy of the hub may touch.
    Raises WrongScope, WrongSignature or TokenExpired. The signature is checked before the expiry: a stranger learns
    nothing about the clock.
    """
    if not covers(token.path, resource_path):
        raise WrongScope(scope=token.path, resource=resource_path)
    signed = f"{token.signed_resource}\n{token.expires_at}".encode()
    # Every key is tried, so that the time does not tell which one fits.
    fits = [hmac.compare_digest(sign(key, signed), token.signature) for key in keys]
    if not any(fits):
        raise WrongSignature("the token's signature does not fit the key; was the key regenerated?")
    if now >= token.expires_at:
        raise TokenExpired(expired_at=token.expires_at, now=now)


def covers(scope: str, path: str) -> bool:
    """Whether *scope* is *path* or a folder above it. Some clients encode ids once more within the resource."""
    wanted = scope.split("/") if scope else []
    given = path.split("/") if path else []
    return len(wanted) <= len(given) and all(w == g or unquote(w) == g for w, g in zip(wanted, given, strict=False))
