"""The edge's own CA and the certificate of its gateway, made at first start.

Modules and leaf processes trust `gateway-ca.pem`. The server's certificate is
made anew when it nears its end or when the gateway's names change; the CA stays,
so that nobody has to be told. Keys are 0600 in a folder of mode 0700.
"""

import datetime
import ipaddress
import logging
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sanderling.edge.disk import write_durably
from sanderling.edge.layout import Layout
from sanderling.errors import Invalid

_log = logging.getLogger(__name__)

_CA_DAYS = 3650
_LEAF_DAYS = 365
_RENEW_BEFORE = datetime.timedelta(days=60)
_SKEW = datetime.timedelta(days=1)  # devices without a clock battery start in the past


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, PEM."""

    certificate: str
    key: str
    expires_at: datetime.datetime


class GatewayCa:
    """The CA of one data folder; made when it is not there."""

    def __init__(self, layout: Layout, now: datetime.datetime) -> None:
        """Load the CA, or make it. Raises `Invalid` when its files are broken."""
        self._folder = layout.folder("tls")
        self._certificate_path = layout.gateway_ca
        key_path = self._folder / "ca.key"
        if not key_path.is_file() or not self._certificate_path.is_file():
            self._make(key_path, now)
        try:
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
            self._certificate = x509.load_pem_x509_certificate(self._certificate_path.read_bytes())
        except ValueError as e:
            raise Invalid(
                f"the edge CA in {self._folder} is broken; delete it and gateway-ca.pem to make a new one"
            ) from e
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Invalid(f"the edge CA in {self._folder} has a key of a kind that we do not make")
        self._key = key

    @property
    def pem(self) -> str:
        """The CA's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _make(self, key_path: Path, now: datetime.datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sanderling edge CA {os.urandom(4).hex()}")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + datetime.timedelta(days=_CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(is_ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_durably(key_path, _key_pem(key))
        write_durably(self._certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def issue(self, common_name: str, names: Sequence[str], now: datetime.datetime, days: int = _LEAF_DAYS) -> Issued:
        """Return a new certificate for server and client use, with *names* (DNS or IP) as its SANs."""
        key = ec.generate_private_key(ec.SECP256R1())
        expires_at = min(now + datetime.timedelta(days=days), self._certificate.not_valid_after_utc)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(expires_at)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return Issued(pem, _key_pem(key).decode(), expires_at)

    def server_context(self, names: Sequence[str], now: datetime.datetime) -> ssl.SSLContext:
        """Return TLS (1.2 and later) for the gateway under *names*, with a certificate that is kept while it fits."""
        certificate_path, key_path = self._folder / "server.pem", self._folder / "server.key"
        if not self._fits(certificate_path, names, now) or not key_path.is_file():
            issued = self.issue(names[0], names, now)
            # The key goes first: a certificate without its key would be kept and never work.
            certificate_path.unlink(missing_ok=True)
            write_durably(key_path, issued.key.encode())
            write_durably(certificate_path, issued.certificate.encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate_path, key_path)
        return context

    def _fits(self, path: Path, names: Sequence[str], now: datetime.datetime) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            have = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            certificate.verify_directly_issued_by(self._certificate)
        except (OSError, ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature) as e:
            if path.exists():
                _log.warning(
                    "the gateway's certificate cannot be used and is made anew: %s", str(e) or type(e).__name__
                )
            return False
        return set(have) == {_general_name(n) for n in names} and now + _RENEW_BEFORE < certificate.not_valid_after_utc


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
