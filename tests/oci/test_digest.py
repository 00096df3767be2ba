import contextlib
import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.oci import Digest, DigestMismatch, Hasher


@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_a_digest_is_the_hash_of_the_content(content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    assert (digest.algorithm, digest.hex) == (algorithm, hashlib.new(algorithm, content).hexdigest())
    assert Digest.parse(digest) == digest
    assert pickle.loads(pickle.dumps(digest)) == digest
    digest.verify(content)


@given(st.lists(st.binary()))
def test_pieces_hash_like_the_whole(pieces: list[bytes]) -> None:
    hasher = Hasher()
    for piece in pieces:
        hasher.update(piece)
    assert hasher.digest() == Digest.of(b"".join(pieces))
    assert hasher.size == len(b"".join(pieces))


@given(st.text())
def test_any_text_is_a_digest_or_invalid(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert Digest.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "\n",
        "sha256:../../../../etc/passwd",
        "sha256:" + "٣" * 64,
        " sha256:" + "a" * 64,
        "a" * 100_000,
    ],
)
def test_what_is_not_a_digest_is_refused_briefly(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        Digest(text)
    assert len(refused.value.message) < 300


def test_no_text_at_all_is_refused() -> None:
    with pytest.raises(Invalid, match="int"):
        Digest.parse(5)  # type: ignore[arg-type]


def test_other_content_is_a_mismatch_that_names_both() -> None:
    with pytest.raises(DigestMismatch) as refused:
        Digest.of(b"a").verify(b"b")
    assert (refused.value.expected, refused.value.actual) == (Digest.of(b"a"), Digest.of(b"b"))


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(Invalid, match="md5"):
        Hasher("md5")
