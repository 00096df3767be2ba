import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.image.debian.lock import BaseLock, LockInvalid, read_locks, write_locks
from sanderling.image.debian.packages import Package
from sanderling.image.debian.versions import BOOKWORM, TRIXIE, DebianVersion


def package(name: str) -> Package:
    return Package(name, "1:2.36-9+deb12u13", f"pool/main/x/{name}_2.36.deb", "ab" * 32, 7, "", "Package: x\n", "main")


def lock(architecture: str = "amd64", debian: DebianVersion = BOOKWORM) -> BaseLock:
    packages = tuple(package(name) for name in sorted(debian.wanted))
    return BaseLock(architecture, datetime(2026, 11, 22, tzinfo=UTC), packages, {}, debian.codename)


def changed(**package: Any) -> bytes:
    data = json.loads(write_locks([lock()]))
    data["locks"][0]["packages"][0] |= package
    return json.dumps(data).encode()


@pytest.mark.parametrize("debian", [BOOKWORM, TRIXIE])
def test_locks_come_back_from_their_file_as_they_were(debian: DebianVersion) -> None:
    locks = [lock("arm64", debian), lock("amd64", debian)]
    raw = write_locks(locks)
    assert read_locks(raw, "x") == {"amd64": locks[1], "arm64": locks[0]}
    assert write_locks(read_locks(raw, "x").values()) == raw


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no JSON"),
        (b"[]", "does not say that it is"),
        (b"[" * 100000, "no JSON"),
        (write_locks([lock()]).replace(b'"version": 1,', b'"version": 2,', 1), "of version 2"),
        (write_locks([]), "holds no lock"),
        (write_locks([lock(), lock()]), "two locks for amd64"),
        (write_locks([lock(), lock("arm64", TRIXIE)]), "not all of one version"),
        (write_locks([lock()]).replace(b"bookworm", b"jessie"), "for Debian 'jessie'"),
        (write_locks([lock()]).replace(b"+00:00", b""), "no zone"),
        (changed(name="../../etc/shadow"), "no name"),
        (changed(filename="/etc/shadow"), "no filename"),
        (changed(filename="pool/../../x.deb"), "no filename"),
        (changed(filename="http://elsewhere/x.deb"), "no filename"),
        (changed(sha256="AB" * 32), "no sha256"),
        (changed(version="1.0 evil"), "no version"),
        (changed(archive="other"), "no archive"),
        (changed(size_bytes=-1), "no size"),
        (changed(size_bytes=True), "no size"),
        (changed(control=None), "no control text"),
        (changed(name="libc6"), "twice"),
        (changed(name="another"), "lacks what every base needs: base-files"),
    ],
)
def test_a_file_that_is_no_lock_is_refused_with_its_name(raw: bytes, words: str) -> None:
    with pytest.raises(LockInvalid, match=words) as caught:
        read_locks(raw, "base.lock.json")
    assert "base.lock.json" in caught.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["made_at", "dates", "packages", "release", "architecture"]), JSON)
def test_whatever_a_field_holds_the_answer_is_a_lock_or_a_refusal(field: str, value: Any) -> None:
    data = json.loads(write_locks([lock()]))
    data["locks"][0][field] = value
    try:
        read_locks(json.dumps(data).encode(), "x")
    except LockInvalid:
        return
