from datetime import UTC, datetime

import pytest
from pysequoia import Cert, SignatureMode, Tsk, sign

from sanderling.image.debian.release import ReleaseRefused, certificates, verify_release

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SHA256 = "ab" * 32
TEXT = f"""Origin: Debian
Codename: bookworm
Date: Sat, 11 Jul 2026 10:16:37 UTC
Valid-Until: Sat, 28 Nov 2026 00:00:00 UTC
Acquire-By-Hash: yes
SHA256:
 {SHA256} 123 main/binary-amd64/Packages.xz
 {SHA256}        7 main/binary-arm64/Packages.xz
"""


@pytest.fixture(scope="module")
def key() -> Tsk:
    return Tsk.generate("Archive <archive@example.org>")


def signed(key: Tsk, text: str) -> bytes:
    return sign(key.signer(), text.encode(), mode=SignatureMode.CLEAR)


def certs(key: Tsk) -> list[Cert]:
    return [key.extract_certificate()]


def test_a_signed_release_gives_its_date_and_indexes(key: Tsk) -> None:
    release = verify_release(signed(key, TEXT), suite="bookworm", certs=certs(key), now=NOW)
    assert release.date == datetime(2026, 7, 11, 10, 16, 37, tzinfo=UTC)
    assert release.indexes["main/binary-amd64/Packages.xz"] == (SHA256, 123)
    assert release.has_by_hash


def test_text_that_was_changed_after_signing_is_refused(key: Tsk) -> None:
    raw = signed(key, TEXT).replace(b" 123 ", b" 124 ")
    with pytest.raises(ReleaseRefused, match="no good signature"):
        verify_release(raw, suite="bookworm", certs=certs(key), now=NOW)


def test_what_another_key_signed_is_refused(key: Tsk) -> None:
    raw = signed(key, TEXT)
    with pytest.raises(ReleaseRefused, match="no good signature"):
        verify_release(raw, suite="bookworm", certs=certificates(security=False), now=NOW)


def test_text_around_the_signed_part_does_not_count(key: Tsk) -> None:
    raw = b"Codename: bookworm\nSHA256:\n " + b"cd" * 32 + b" 1 evil\n\n" + signed(key, TEXT)
    try:
        release = verify_release(raw, suite="bookworm", certs=certs(key), now=NOW)
    except ReleaseRefused:
        return
    assert "evil" not in release.indexes


def test_text_without_a_signature_is_refused(key: Tsk) -> None:
    for raw in (TEXT.encode(), b"", b"\x00" * 100):
        with pytest.raises(ReleaseRefused):
            verify_release(raw, suite="bookworm", certs=certs(key), now=NOW)


def test_an_expired_release_is_refused(key: Tsk) -> None:
    with pytest.raises(ReleaseRefused, match="expired at 2026-11-28"):
        verify_release(signed(key, TEXT), suite="bookworm", certs=certs(key), now=datetime(2026, 11, 29, tzinfo=UTC))


def test_a_release_older_than_one_seen_before_is_refused(key: Tsk) -> None:
    with pytest.raises(ReleaseRefused, match="older than one seen before"):
        verify_release(
            signed(key, TEXT), suite="bookworm", certs=certs(key), now=NOW, not_before=datetime(2026, 8, 1, tzinfo=UTC)
        )


def test_a_release_of_another_suite_is_refused(key: Tsk) -> None:
    with pytest.raises(ReleaseRefused, match="it is for 'bookworm'"):
        verify_release(signed(key, TEXT), suite="bookworm-security", certs=certs(key), now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("Date: Sat, 11 Jul 2026 10:16:37 UTC\n", ""),
        TEXT.replace("10:16:37 UTC", "noon"),
        TEXT.replace(" 123 ", " x "),
    ],
)
def test_a_release_that_cannot_be_read_is_refused_although_it_is_signed(key: Tsk, text: str) -> None:
    with pytest.raises(ReleaseRefused):
        verify_release(signed(key, text), suite="bookworm", certs=certs(key), now=NOW)


def test_the_shipped_certificates_are_debians_for_bookworm() -> None:
    names = [str(user) for security in (False, True) for cert in certificates(security) for user in cert.user_ids]
    assert len(names) == 3
    assert all("12/bookworm" in name for name in names)
