"""Short-lived tokens that say for themselves what they allow. Pure.

    sdr1.<base64url of JSON>.<base64url of HMAC-SHA-256>

Nothing is kept of them, so that any server that has the key can check one. What a
token with a proof may at all is looked up when it is used.
"""

import base64
import binascii
import hashlib
import hmac
import json
from datetime import UTC, datetime

from sanderling.errors import Denied, Invalid, SanderlingError
from sanderling.oci import canonical_json, parse_document
from sanderling.registry.access.rights import Principal, Proof, Scope

PREFIX = "sdr1."
_MAX_TOKEN = 16384


class TokenExpired(Denied):
    """A token of ours whose time is over: nobody's guess, and its holder is told so."""

    def __init__(self, expired_at: float) -> None:
        when = datetime.fromtimestamp(expired_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        super().__init__(f"the token expired at {when}; get a new one")
        self.expired_at = expired_at


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _sign(key: bytes, payload: str) -> str:
    return _encode(hmac.new(key, (PREFIX + payload).encode("ascii"), hashlib.sha256).digest())


def make_token(key: bytes, principal: Principal, expires_at: float) -> str:
    """Return a token for *principal* until *expires_at* (seconds of the epoch), or its own end if that is sooner.

    Raises `Invalid` when it would be longer than any header may be.
    """
    if principal.expires_at is not None:
        expires_at = min(expires_at, principal.expires_at)
    document: dict[str, object] = {"sub": principal.subject, "exp": int(expires_at)}
    if principal.is_narrowed or principal.proof is None:
        document["scopes"] = _entries(principal.scopes)
    if principal.is_narrowed:
        document["refused"] = _entries(principal.refused)
        document["catalogue"] = principal.sees_catalogue
    if principal.proof is not None:
        document["proof"] = [principal.proof.kind, principal.proof.name, principal.proof.mark]
    payload = _encode(canonical_json(document))
    token = f"{PREFIX}{payload}.{_sign(key, payload)}"
    if len(token) > _MAX_TOKEN:
        raise Invalid("so many scopes fit into no token; ask for fewer at once")
    return token


def read_token(key: bytes, token: str, now: float) -> Principal | None:
    """Return whom *token* speaks for, or None when it is not ours or altered; raise `TokenExpired`."""
    if not token.startswith(PREFIX) or len(token) > _MAX_TOKEN or not token.isascii():
        return None
    payload, _, signature = token.removeprefix(PREFIX).partition(".")
    if not hmac.compare_digest(_sign(key, payload), signature):
        return None
    try:
        document = parse_document(_decode(payload), "token")
        if document["exp"] <= now:
            raise TokenExpired(document["exp"])
        return Principal(
            subject=document["sub"],
            scopes=_scopes(document.get("scopes", [])),
            refused=_scopes(document.get("refused", [])),
            proof=Proof(*document["proof"]) if "proof" in document else None,
            is_narrowed="refused" in document,
            expires_at=document["exp"],
            sees_catalogue=document.get("catalogue", True),
        )
    except TokenExpired:
        raise
    except (binascii.Error, json.JSONDecodeError, SanderlingError, KeyError, TypeError, ValueError):
        return None  # signed by an older version of ours


def _entries(scopes: tuple[Scope, ...]) -> list[list[object]]:
    return [[scope.repositories, sorted(scope.actions)] for scope in scopes]


def _scopes(entries: list[list[object]]) -> tuple[Scope, ...]:
    return tuple(Scope(str(name), frozenset(map(str, actions))) for name, actions in entries)  # type: ignore[call-overload]
