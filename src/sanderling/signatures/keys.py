"""Keys that sign images: ECDSA on the curve P-256 with SHA-256, which every verifier of container signatures knows.

Private keys are PKCS #8 in PEM, public keys SubjectPublicKeyInfo in PEM: what openssl and cosign read.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sanderling.errors import Invalid

MAX_KEY_BYTES = 64 * 1024
_ALGORITHM = ec.ECDSA(hashes.SHA256())


class KeyInvalid(Invalid):
    """What was given is no key of the kind that signs images."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The key that checks."""

    _key: ec.EllipticCurvePublicKey = field(repr=False)

    @classmethod
    def parse(cls, pem: bytes) -> Self:
        """Read a public key in PEM. Raises KeyInvalid for anything else, and for other curves."""
        try:
            key = serialization.load_pem_public_key(pem[: MAX_KEY_BYTES + 1])
        except (ValueError, UnsupportedAlgorithm) as e:
            raise KeyInvalid("this is no public key in PEM; it begins with -----BEGIN PUBLIC KEY-----") from e
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KeyInvalid("this public key is of another kind: ECDSA on P-256 is expected")
        return cls(key)

    def pem(self) -> bytes:
        """Return the key in PEM."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> str:
        """What sigstore calls the key: its SHA-256 (of the DER form), in base64."""
        der = self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(der).digest()).decode()

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Say whether *signature* (DER) over *data* was made with the private half."""
        try:
            self._key.verify(signature, data, _ALGORITHM)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that signs. Its text form is a secret."""

    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Return a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> Self:
        """Read a private key in PEM. Raises KeyInvalid; nothing of the key is in the message."""
        if b"SIGSTORE PRIVATE KEY" in pem or b"COSIGN PRIVATE KEY" in pem:
            raise KeyInvalid(
                "this is a key in cosign's own form, which cosign alone opens; make one with "
                "'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256', which cosign can import"
            )
        try:
            key = serialization.load_pem_private_key(pem[: MAX_KEY_BYTES + 1], password)
        except TypeError as e:
            raise KeyInvalid("this private key is locked with a password; give it unlocked, in a file of 0600") from e
        except (ValueError, UnsupportedAlgorithm) as e:
            raise KeyInvalid("this is no private key in PEM; it begins with -----BEGIN PRIVATE KEY-----") from e
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KeyInvalid("this private key is of another kind: ECDSA on P-256 is expected")
        return cls(key)

    def private_pem(self) -> bytes:
        """Return the key in PEM, not encrypted: it is a secret."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def public(self) -> PublicKey:
        """The half that may be shown to everybody."""
        return PublicKey(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        """Return the signature of *data* in DER; it is another one each time."""
        return self._key.sign(data, _ALGORITHM)
