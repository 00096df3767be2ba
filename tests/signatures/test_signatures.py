import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from sanderling.errors import Invalid
from sanderling.oci import Digest
from sanderling.signatures import cosign, dsse
from sanderling.signatures.keys import KeyInvalid, PublicKey, SigningKey

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
SUBJECT = Digest.of(b"image")


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


def test_a_key_reads_back_and_signs_what_its_public_half_verifies() -> None:
    again = SigningKey.from_pem(KEY.private_pem())
    public = PublicKey.parse(again.public.pem())
    assert public.verify(b"data", again.sign(b"data"))
    assert not public.verify(b"date", again.sign(b"data"))
    assert not public.verify(b"data", OTHER.sign(b"data"))
    assert not public.verify(b"data", b"no signature")
    assert public.key_id == KEY.public.key_id != OTHER.public.key_id


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (pem_of(rsa.generate_private_key(65537, 2048)), "of another kind"),
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "of another kind"),
        (pem_of(ec.generate_private_key(ec.SECP256R1()), b"password"), "locked with a password"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "cosign's own form"),
        (b"rubbish", "no private key in PEM"),
    ],
    ids=["rsa", "p384", "locked", "cosign", "rubbish"],
)
def test_what_cannot_sign_is_refused_with_the_reason(pem: bytes, reason: str) -> None:
    with pytest.raises(KeyInvalid, match=reason):
        SigningKey.from_pem(pem)


@pytest.mark.parametrize("pem", [b"", b"rubbish", KEY.private_pem()], ids=["empty", "rubbish", "private"])
def test_what_cannot_check_is_refused(pem: bytes) -> None:
    with pytest.raises(KeyInvalid, match="public key"):
        PublicKey.parse(pem)


def test_a_key_is_not_in_its_own_text() -> None:
    assert "EllipticCurve" not in repr(KEY)


def test_an_envelope_is_what_another_library_of_dsse_verifies() -> None:
    envelope = dsse.envelope(b'{"a": 1}', KEY)
    here, there = (
        SSlibKey.from_crypto(serialization.load_pem_public_key(key.public.pem()), keyid=key.public.key_id)  # type: ignore[arg-type]
        for key in (KEY, OTHER)
    )
    assert len(Envelope.from_dict(envelope | {}).verify([here], 1)) == 1
    with pytest.raises(VerificationError):
        Envelope.from_dict(dsse.envelope(b'{"a": 1}', KEY)).verify([there], 1)


def test_an_envelope_opens_with_the_key_that_signed_it_whatever_its_key_id_says() -> None:
    envelope = dsse.envelope(b"payload", KEY)
    envelope["signatures"][0]["keyid"] = "another"
    assert dsse.open_envelope(dsse.parse_envelope(dsse.to_bytes(envelope)), KEY.public) == (b"payload", dsse.IN_TOTO)
    with pytest.raises(dsse.NotSigned):
        dsse.open_envelope(envelope, OTHER.public)


@pytest.mark.parametrize("name", ["payload", "payloadType"])
def test_an_envelope_with_other_content_or_of_another_type_is_not_signed(name: str) -> None:
    envelope = dsse.envelope(b"payload", KEY) | {name: "cGF5bG9hZDI="}
    with pytest.raises(dsse.NotSigned):
        dsse.open_envelope(envelope, KEY.public)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_what_is_no_envelope_is_invalid_and_nothing_else(value: object) -> None:
    for document in ({"payloadType": "t", "payload": value, "signatures": value}, {"signatures": [value]}):
        with pytest.raises(Invalid):
            dsse.open_envelope(document, KEY.public)
    with pytest.raises(Invalid):
        cosign.open_bundle(json.dumps({"dsseEnvelope": value}).encode(), KEY.public)


def test_a_bundle_opens_as_the_statement_it_holds() -> None:
    statement = cosign.statement([("demo/digits", SUBJECT)], cosign.SIGN_PREDICATE, {})
    raw = cosign.bundle(dsse.envelope(statement, KEY), KEY.public)
    opened = cosign.open_bundle(raw, KEY.public)
    assert opened["predicateType"] == cosign.SIGN_PREDICATE
    assert cosign.is_about(opened, SUBJECT)
    assert not cosign.is_about(opened, Digest.of(b"another"))
    with pytest.raises(dsse.NotSigned):
        cosign.open_bundle(raw, OTHER.public)


def test_a_payload_says_which_image_it_is_about() -> None:
    raw, signature = cosign.sign(SUBJECT, "localhost:8443/demo/digits", KEY)
    assert KEY.public.verify(raw, signature)
    assert cosign.payload_digest(raw) == SUBJECT
    document = json.loads(raw)
    assert document["critical"]["type"] == "cosign container image signature"
    assert document["critical"]["identity"] == {"docker-reference": "localhost:8443/demo/digits"}


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"critical": 1}', b'{"critical": {"image": {}}}'])
def test_a_payload_without_an_image_is_invalid(raw: bytes) -> None:
    with pytest.raises(Invalid):
        cosign.payload_digest(raw)


def test_the_tags_are_those_that_cosign_looks_for() -> None:
    assert cosign.tag(SUBJECT, "sig") == f"sha256-{SUBJECT.hex}.sig"
