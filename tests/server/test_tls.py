import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from sanderling.errors import Invalid
from sanderling.server.tls import TlsFiles, ensure_tls

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("127.0.0.1", "::1", "edge.example", "localhost")


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def contents(files: TlsFiles) -> tuple[bytes, bytes]:
    return files.ca.read_bytes(), files.certificate.read_bytes()


def test_the_authority_and_the_certificate_are_as_promised(tmp_path: Path) -> None:
    files = ensure_tls(tmp_path, NAMES, NOW)
    authority, server = certificate(files.ca), certificate(files.certificate)
    server.verify_directly_issued_by(authority)
    assert authority.not_valid_after_utc - NOW == timedelta(days=3650)
    assert server.not_valid_after_utc - server.not_valid_before_utc < timedelta(days=825)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "edge.example"}
    addresses = {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    assert set(names.get_values_for_type(x509.IPAddress)) == addresses
    assert {file.stat().st_mode & 0o777 for file in (files.ca_key, files.key)} == {0o600}


def test_what_is_good_is_kept(tmp_path: Path) -> None:
    before = contents(ensure_tls(tmp_path, NAMES, NOW))
    assert contents(ensure_tls(tmp_path, NAMES, NOW + timedelta(days=700))) == before


@pytest.mark.parametrize("why", ["names", "ends soon", "no key", "broken", "key of another"])
def test_a_certificate_that_will_not_do_is_made_anew_by_the_same_authority(tmp_path: Path, why: str) -> None:
    files = ensure_tls(tmp_path, NAMES, NOW)
    ca, old = contents(files)
    names, now = NAMES, NOW
    match why:
        case "names":
            names = (*NAMES, "more.example")
        case "ends soon":
            now = NOW + timedelta(days=791)
        case "no key":
            files.key.unlink()
        case "broken":
            files.certificate.write_text("not a certificate")
        case "key of another":
            files.key.write_bytes(files.ca_key.read_bytes())
    files = ensure_tls(tmp_path, names, now)
    assert contents(files)[0] == ca
    assert contents(files)[1] != old
    certificate(files.certificate).verify_directly_issued_by(certificate(files.ca))
    files.server_context()


def test_an_authority_that_lost_its_key_is_not_replaced_by_itself(tmp_path: Path) -> None:
    files = ensure_tls(tmp_path, NAMES, NOW)
    files.ca_key.unlink()
    ca = files.ca.read_bytes()
    with pytest.raises(Invalid, match=r"ca\.key is missing: restore it"):
        ensure_tls(tmp_path, NAMES, NOW)
    assert files.ca.read_bytes() == ca


def test_an_authority_that_ended_is_said_so(tmp_path: Path) -> None:
    ensure_tls(tmp_path, NAMES, NOW)
    with pytest.raises(Invalid, match="ended"):
        ensure_tls(tmp_path, NAMES, NOW + timedelta(days=3651))


def test_an_authority_with_the_key_of_another_is_refused(tmp_path: Path) -> None:
    files = ensure_tls(tmp_path, NAMES, NOW)
    files.ca_key.write_bytes(files.key.read_bytes())
    with pytest.raises(Invalid, match="is not the key of"):
        ensure_tls(tmp_path, NAMES, NOW)
