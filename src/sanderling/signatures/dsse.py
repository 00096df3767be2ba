"""Envelopes of signed documents (DSSE 1.0): the signature covers the payload and its type.

{"payloadType": TYPE, "payload": BASE64, "signatures": [{"keyid": ID, "sig": BASE64}]}
"""

import base64
import binascii
from typing import TYPE_CHECKING, Any

from sanderling.errors import Invalid
from sanderling.oci import canonical_json, parse_document

if TYPE_CHECKING:
    from sanderling.signatures.keys import PublicKey, SigningKey

MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
MAX_BYTES = 64 << 20
_MAX_SIGNATURES = 100


class NotSigned(Invalid):
    """The envelope has no signature by the key."""


def authenticated(payload: bytes, payload_type: str) -> bytes:
    """Return the bytes that are signed (DSSE's PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, key: "SigningKey", payload_type: str = IN_TOTO) -> dict[str, Any]:
    """Return the envelope of *payload*, signed with *key*."""
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {
                "keyid": key.public.key_id,
                "sig": base64.b64encode(key.sign(authenticated(payload, payload_type))).decode(),
            }
        ],
    }


def to_bytes(document: dict[str, Any]) -> bytes:
    """Return an envelope as it is stored."""
    return canonical_json(document)


def open_envelope(document: dict[str, Any], key: "PublicKey") -> tuple[bytes, str]:
    """Return payload and payload type of an envelope that *key* signed.

    Key ids are hints and decide nothing. Raises NotSigned, and Invalid for what is no envelope.
    """
    payload_type, signatures = document.get("payloadType"), document.get("signatures")
    if not isinstance(payload_type, str) or not isinstance(signatures, list):
        raise Invalid("this is no DSSE envelope: it has no payloadType or no signatures")
    payload = decode(document.get("payload"), "the envelope's payload")
    signed = authenticated(payload, payload_type)
    for one in signatures[:_MAX_SIGNATURES]:
        signature = decode(one.get("sig") if isinstance(one, dict) else None, "a signature of the envelope")
        if key.verify(signed, signature):
            return payload, payload_type
    raise NotSigned(f"the envelope is not signed by the key {key.key_id}")


def parse_envelope(raw: bytes) -> dict[str, Any]:
    """Read an envelope's JSON, within bounds. Raises Invalid."""
    return parse_document(raw, "DSSE envelope", MAX_BYTES)


def decode(value: object, what: str) -> bytes:
    """Return base64 decoded. Raises Invalid, which calls it *what*."""
    if not isinstance(value, str):
        raise Invalid(f"{what} is missing")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as e:
        raise Invalid(f"{what} is no base64") from e


def base64_text(data: bytes) -> str:
    """Return *data* as base64 text."""
    return base64.b64encode(data).decode()
