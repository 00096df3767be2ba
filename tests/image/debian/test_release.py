from datetime import UTC, datetime

import pytest
from pysequoia import Cert, SignatureMode, Tsk, sign

from sanderling.image.debian.release import ReleaseRefused, certificates, verify_release
from sanderling.image.debian.versions import BOOKWORM, TRIXIE, VERSIONS, Suite

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MAIN, UPDATES, SECURITY = BOOKWORM.suites
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
    release = verify_release(signed(key, TEXT), suite=MAIN, certs=certs(key), now=NOW)
    assert release.date == datetime(2026, 7, 11, 10, 16, 37, tzinfo=UTC)
    assert release.indexes["main/binary-amd64/Packages.xz"] == (SHA256, 123)
    assert release.has_by_hash


def test_text_that_was_changed_after_signing_is_refused(key: Tsk) -> None:
    raw = signed(key, TEXT).replace(b" 123 ", b" 124 ")
    with pytest.raises(ReleaseRefused, match="no good signature"):
        verify_release(raw, suite=MAIN, certs=certs(key), now=NOW)


def test_what_another_key_signed_is_refused(key: Tsk) -> None:
    raw = signed(key, TEXT)
    with pytest.raises(ReleaseRefused, match="no good signature"):
        verify_release(raw, suite=MAIN, certs=certificates(MAIN), now=NOW)


def test_text_around_the_signed_part_does_not_count(key: Tsk) -> None:
    raw = b"Codename: bookworm\nSHA256:\n " + b"cd" * 32 + b" 1 evil\n\n" + signed(key, TEXT)
    try:
        release = verify_release(raw, suite=MAIN, certs=certs(key), now=NOW)
    except ReleaseRefused:
        return
    assert "evil" not in release.indexes


def test_text_without_a_signature_is_refused(key: Tsk) -> None:
    for raw in (TEXT.encode(), b"", b"\x00" * 100):
        with pytest.raises(ReleaseRefused):
            verify_release(raw, suite=MAIN, certs=certs(key), now=NOW)


def test_an_expired_release_is_refused(key: Tsk) -> None:
    with pytest.raises(ReleaseRefused, match="expired at 2026-11-28"):
        verify_release(signed(key, TEXT), suite=MAIN, certs=certs(key), now=datetime(2026, 11, 29, tzinfo=UTC))


def test_a_release_older_than_one_seen_before_is_refused(key: Tsk) -> None:
    with pytest.raises(ReleaseRefused, match="older than one seen before"):
        verify_release(
            signed(key, TEXT), suite=MAIN, certs=certs(key), now=NOW, not_before=datetime(2026, 8, 1, tzinfo=UTC)
        )


def test_a_release_of_another_suite_is_refused(key: Tsk) -> None:
    with pytest.raises(ReleaseRefused, match="it is for 'bookworm'"):
        verify_release(signed(key, TEXT), suite=SECURITY, certs=certs(key), now=NOW)


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
        verify_release(signed(key, text), suite=MAIN, certs=certs(key), now=NOW)


def test_a_release_older_than_this_module_is_refused_at_the_first_time_already(key: Tsk) -> None:
    text = TEXT.replace("11 Jul 2026", "11 Jun 2026")
    with pytest.raises(ReleaseRefused, match="there has been a newer one since 2026-07-11"):
        verify_release(signed(key, text), suite=MAIN, certs=certs(key), now=NOW)


def test_a_release_from_the_future_is_refused(key: Tsk) -> None:
    with pytest.raises(ReleaseRefused, match="still to come; is this machine's clock right"):
        verify_release(signed(key, TEXT), suite=MAIN, certs=certs(key), now=datetime(2026, 7, 11, 9, tzinfo=UTC))


def test_the_security_suite_must_say_until_when_it_is_valid(key: Tsk) -> None:
    def verified(suite: Suite, text: str) -> str:
        raw = signed(key, text.replace("Codename: bookworm", f"Codename: {suite.name}"))
        return verify_release(raw, suite=suite, certs=certs(key), now=NOW).suite

    endless = TEXT.replace("Valid-Until: Sat, 28 Nov 2026 00:00:00 UTC\n", "")
    assert verified(SECURITY, TEXT) == SECURITY.name
    assert (verified(MAIN, endless), verified(UPDATES, endless)) == (MAIN.name, UPDATES.name)
    with pytest.raises(ReleaseRefused, match="until when"):
        verified(SECURITY, endless)


def test_a_field_or_a_promise_that_is_there_twice_is_refused(key: Tsk) -> None:
    for text in (TEXT + "Codename: bookworm\n", TEXT + f" {'cd' * 32} 123 main/binary-amd64/Packages.xz\n"):
        with pytest.raises(ReleaseRefused, match=r"twice|two things"):
            verify_release(signed(key, text), suite=MAIN, certs=certs(key), now=NOW)


def test_every_changed_byte_of_the_signed_text_is_noticed(key: Tsk) -> None:
    raw = signed(key, TEXT)
    start, end = raw.index(b"Origin"), raw.index(b"-----BEGIN PGP SIGNATURE")
    for place in range(start, end - 1, 7):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(ReleaseRefused):
            verify_release(bytes(changed), suite=MAIN, certs=certs(key), now=NOW)


def test_a_second_signed_text_behind_the_first_does_not_count(key: Tsk) -> None:
    other = Tsk.generate("Somebody <somebody@example.org>")
    evil = TEXT.replace("main/binary-amd64", "evil/binary-amd64")
    for raw in (signed(key, TEXT) + signed(other, evil), signed(other, evil) + signed(key, TEXT)):
        try:
            release = verify_release(raw, suite=MAIN, certs=certs(key), now=NOW)
        except ReleaseRefused:
            continue
        assert not [path for path in release.indexes if "evil" in path]


def test_each_suite_has_keys_of_its_own() -> None:
    for version in VERSIONS:
        main, updates, security = (
            {cert.fingerprint: str(cert.user_ids[0]) for cert in certificates(suite)} for suite in version.suites
        )
        assert updates.keys() < main.keys()
        assert not main.keys() & security.keys()
        assert all(f"({version.number}/{version.codename})" in name for name in (main | security).values())
        assert "Stable Release Key" in "".join(main[key] for key in main.keys() - updates.keys())
        assert all("Security" in name for name in security.values())
    assert not {key for s in BOOKWORM.suites for key in s.keys} & {key for s in TRIXIE.suites for key in s.keys}


def test_a_key_of_one_suite_does_not_sign_for_another() -> None:
    first, second = Tsk.generate("One <one@example.org>"), Tsk.generate("Two <two@example.org>")
    with pytest.raises(ReleaseRefused, match="no good signature"):
        verify_release(signed(first, TEXT), suite=MAIN, certs=certs(second), now=NOW)
