"""The server's own certificate authority, made at the first start.

    DIR/tls/ca.pem, ca.key          ECDSA P-256, ten years; devices and clients trust this one
    DIR/tls/server.pem, server.key  made anew when the names change or it ends within 30 days

- The authority is never replaced by itself: everything that trusts it would be cut off.
- Keys are readable by their owner alone.
- TLS 1.2 is the least, not 1.3: the device SDK of IoT Hub speaks 1.2 only.
"""

import ipaddress
import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sanderling.durable import ensure_private_folder, write_durably
from sanderling.errors import Invalid

log = logging.getLogger(__name__)

AUTHORITY_LIFE = timedelta(days=3650)
CERTIFICATE_LIFE = timedelta(days=820)  # Apple's systems refuse more than 825
RENEW_BEFORE_END = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)  # a device's clock may be behind ours


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificates and keys lie."""

    ca: Path
    ca_key: Path
    certificate: Path
    key: Path

    @classmethod
    def within(cls, folder: Path) -> "TlsFiles":
        """Return the paths in *folder*; nothing is read or made."""
        return cls(folder / "ca.pem", folder / "ca.key", folder / "server.pem", folder / "server.key")

    def server_context(self) -> ssl.SSLContext:
        """Return a context for listening with the server's certificate, TLS 1.2 and newer."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context

    def trusting_context(self) -> ssl.SSLContext:
        """Return a client's context that trusts this authority and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca))


def ensure_tls(folder: Path, names: tuple[str, ...], now: datetime) -> TlsFiles:
    """Return the files of an authority and a certificate for *names*, making what is missing.

    Raises Invalid when a file is there and cannot be read as what it should be, or
    when the authority itself has ended: replacing it is the user's decision.
    """
    files = TlsFiles.within(folder)
    ensure_private_folder(folder)
    if files.ca.exists() != files.ca_key.exists():
        missing = files.ca_key if files.ca.exists() else files.ca
        raise Invalid(f"{missing} is missing: restore it, or move {folder} away to begin with a new authority")
    if not files.ca.exists():
        _make_authority(files, now)
    authority, authority_key = _read_authority(files)
    if authority.not_valid_after_utc <= now:
        raise Invalid(f"the certificate authority {files.ca} ended; move {folder} away to begin with a new one")
    reason = _reason_to_issue(files, authority, names, now)
    if reason is not None:
        log.info("new server certificate: %s", reason)
        _issue(files, authority, authority_key, names, now)
    return files


def _make_authority(files: TlsFiles, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The name carries a part of the key's identity: two installations must not look the same in a trust store.
    name = _name(f"Sanderling CA {identity.digest.hex()[:8]}")
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identity, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_durably(files.ca_key, _private_pem(key), 0o600)
    write_durably(files.ca, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _read_authority(files: TlsFiles) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(files.ca.read_bytes())
        key = serialization.load_pem_private_key(files.ca_key.read_bytes(), password=None)
    except ValueError as e:
        raise Invalid(f"the certificate authority in {files.ca.parent} cannot be read: restore it from a backup") from e
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise Invalid(f"{files.ca_key} is not the key of {files.ca}: restore both from the same backup")
    return certificate, key


def _reason_to_issue(files: TlsFiles, authority: x509.Certificate, names: tuple[str, ...], now: datetime) -> str | None:
    """Say why the server needs a new certificate, or None when the one it has will do."""
    if not files.certificate.exists() or not files.key.exists():
        return "there is none yet"
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return "the one there cannot be read"
    # The pair is two files: a stop between the two renames leaves a key that does not fit.
    if key.public_key() != certificate.public_key() or certificate.issuer != authority.subject:
        return "the one there does not fit its key or its authority"
    if certificate.not_valid_after_utc - RENEW_BEFORE_END <= now:
        return "the one there ends soon"
    if set(has) != set(_alternative_names(names)):
        return "the names changed"
    return None


def _issue(
    files: TlsFiles,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    now: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("Sanderling server"))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + CERTIFICATE_LIFE, authority.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(_alternative_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_durably(files.key, _private_pem(key), 0o600)
    write_durably(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative_names(names: tuple[str, ...]) -> list[x509.GeneralName]:
    return [_alternative_name(name) for name in names]


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def utc_now() -> datetime:
    """Return the time now, in UTC, with its zone."""
    return datetime.now(UTC)
