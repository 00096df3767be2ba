import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.oci import Digest, Reference, is_repository, is_tag

D = Digest.of(b"x")


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("localhost:8443/demo/digits:1", "localhost:8443", "demo/digits", "1", None),
        ("localhost/digits", "localhost", "digits", "latest", None),
        ("debian", "docker.io", "library/debian", "latest", None),
        ("debian:12", "docker.io", "library/debian", "12", None),
        ("index.docker.io/debian", "docker.io", "library/debian", "latest", None),
        ("user/app", "docker.io", "user/app", "latest", None),
        ("docker.io/user/app:v1.0", "docker.io", "user/app", "v1.0", None),
        ("registry.example.com/a/b/c", "registry.example.com", "a/b/c", "latest", None),
        ("[::1]:5000/a", "[::1]:5000", "a", "latest", None),
        (f"localhost:5000/a@{D}", "localhost:5000", "a", "", D),
        (f"localhost:5000/a:t@{D}", "localhost:5000", "a", "t", D),
        ("Host/a", "Host", "a", "latest", None),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(
    text: str, registry: str, repository: str, tag: str, digest: Digest | None
) -> None:
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag, reference.digest) == (
        registry,
        repository,
        tag,
        digest,
    )
    assert reference.identifier == (digest or tag)
    assert Reference.parse(str(reference)) == reference


@given(st.text(st.sampled_from("aZ0.:/@-_[]é \x00"), max_size=40))
def test_any_text_is_a_reference_that_survives_or_invalid(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except Invalid:
        return
    assert is_repository(reference.repository)
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    ["", ":1", "/a", "a/", "a//b", "a:", "a:b:c", "a@", "a@sha256:1", "../a", "localhost/..", "localhost/A", "a b",
     "a:" + "t" * 129, "localhost:999999/a", "-a", "a-/b", "a___b", "a..b", "x" * 2000, "localhost/" + "a" * 256],
)  # fmt: skip
def test_what_is_not_a_reference_is_refused_briefly(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        Reference.parse(text)
    assert len(refused.value.message) < 600


@pytest.mark.parametrize(
    ("text", "expected"), [("a", True), ("_a.B-1", True), ("", False), (".a", False), ("a\n", False)]
)
def test_tags_have_a_grammar(text: str, expected: bool) -> None:
    assert is_tag(text) is expected
