"""How cosign keeps signatures and attestations beside an image.

Two forms, and both are written, so that every version of cosign finds one:

- **Tags** (cosign before 3, policy engines, Podman and skopeo): the tag
  ``sha256-HEX.sig`` names a manifest whose layers are payloads, each with its
  signature in an annotation; ``sha256-HEX.att`` one whose layers are envelopes.
- **Bundles** (cosign 3, sigstore libraries): a referrer of the image whose layer is a
  sigstore bundle: an envelope and the name of the key. An image's signature is there a
  statement about its digest that says nothing more.

Sources: cosign's specs/SIGNATURE_SPEC.md and specs/BUNDLE_SPEC.md, the sigstore bundle 0.3.
"""

from typing import TYPE_CHECKING, Any

from sanderling.errors import Invalid
from sanderling.oci import Digest, canonical_json, parse_document
from sanderling.signatures import dsse

if TYPE_CHECKING:
    from sanderling.signatures.keys import PublicKey, SigningKey

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
PREDICATE_ANNOTATION = "predicateType"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLE_PREFIX = "application/vnd.dev.sigstore.bundle"
BUNDLE_CONTENT_ANNOTATION = "dev.sigstore.bundle.content"
BUNDLE_PREDICATE_ANNOTATION = "dev.sigstore.bundle.predicateType"

STATEMENT = "https://in-toto.io/Statement/v1"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE_PREDICATE = "https://slsa.dev/provenance/v1"
CYCLONEDX_PREDICATE = "https://cyclonedx.org/bom"

_TYPE = "cosign container image signature"


def tag(subject: Digest, suffix: str) -> str:
    """Return the tag under which cosign looks for what is about *subject*: *suffix* is sig or att."""
    return f"{subject.algorithm}-{subject.hex}.{suffix}"


def payload(subject: Digest, repository: str) -> bytes:
    """Return what is signed for an image: its digest, and *repository* (``host/name``), where it was signed for."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": str(subject)},
        "type": _TYPE,
    }
    return canonical_json({"critical": critical, "optional": {}})


def payload_digest(raw: bytes) -> Digest:
    """Return the digest of the image that a payload is about. Raises Invalid."""
    document = parse_document(raw, "signature's payload", 1 << 20)
    critical = document.get("critical")
    image = critical.get("image") if isinstance(critical, dict) else None
    digest = image.get("docker-manifest-digest") if isinstance(image, dict) else None
    if not isinstance(digest, str):
        raise Invalid("the signature's payload names no image")
    return Digest.parse(digest)


def statement(subjects: list[tuple[str, Digest]], predicate_type: str, predicate: object) -> bytes:
    """Return an in-toto statement about *subjects* (name, or empty; digest)."""
    listed: list[dict[str, Any]] = []
    for name, digest in subjects:
        listed.append(({"name": name} if name else {}) | {"digest": {digest.algorithm: digest.hex}})
    document = {"_type": STATEMENT, "subject": listed, "predicateType": predicate_type, "predicate": predicate}
    return canonical_json(document)


def parse_statement(raw: bytes) -> dict[str, Any]:
    """Read a statement: its subjects are checked to be some. Raises Invalid."""
    document = parse_document(raw, "statement", dsse.MAX_BYTES)
    subjects = document.get("subject")
    if not str(document.get("_type", "")).startswith("https://in-toto.io/Statement/") or not isinstance(subjects, list):
        raise Invalid("this is no in-toto statement")
    return document


def is_about(document: dict[str, Any], subject: Digest) -> bool:
    """Say whether a statement is about *subject*."""
    for one in document["subject"]:
        digests = one.get("digest") if isinstance(one, dict) else None
        if isinstance(digests, dict) and digests.get(subject.algorithm) == subject.hex:
            return True
    return False


def bundle(envelope: dict[str, Any], key: "PublicKey") -> bytes:
    """Return a sigstore bundle of *envelope*, which *key* signed: no log, no timestamp, the key by its id."""
    # A bundle's envelope names no key id: the bundle does, once.
    signatures = [{"sig": one["sig"]} for one in envelope["signatures"]]
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key.key_id}},
        "dsseEnvelope": envelope | {"signatures": signatures},
    }
    return canonical_json(document)


def open_bundle(raw: bytes, key: "PublicKey") -> dict[str, Any]:
    """Return the statement of a bundle that *key* signed. Raises NotSigned, and Invalid for another bundle."""
    document = parse_document(raw, "sigstore bundle", dsse.MAX_BYTES)
    envelope = document.get("dsseEnvelope")
    if not isinstance(envelope, dict):
        raise Invalid("the bundle holds no DSSE envelope")
    opened, payload_type = dsse.open_envelope(envelope, key)
    if payload_type != dsse.IN_TOTO:
        raise Invalid(f"the bundle's content is no statement but {payload_type[:100]!r}")
    return parse_statement(opened)


def sign(subject: Digest, repository: str, key: "SigningKey") -> tuple[bytes, bytes]:
    """Return payload and signature of an image in the older form."""
    raw = payload(subject, repository)
    return raw, key.sign(raw)
