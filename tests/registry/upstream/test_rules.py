import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.registry import Upstream
from sanderling.registry.upstream.rules import find_mirrored, find_upstream

HUB = Upstream("hub", "docker.io", is_mirror=True)
DEEP = Upstream("hub/deep", "quay.io")
PEER = Upstream("peer", "registry.example:5000", is_mirror=True)


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("hub/library/debian", (HUB, "library/debian")),
        ("hub/debian", (HUB, "library/debian")),
        ("hub/deep/app", (DEEP, "app")),
        ("peer/app", (PEER, "app")),
        ("hub", None),
        ("hubble/app", None),
        ("demo/hub/app", None),
    ],
)
def test_the_longest_prefix_says_what_a_repository_stands_for(
    repository: str, expected: tuple[Upstream, str] | None
) -> None:
    assert find_upstream([HUB, DEEP, PEER], repository) == expected


@pytest.mark.parametrize(
    ("repository", "namespace", "expected"),
    [
        ("library/debian", "docker.io", "hub/library/debian"),
        ("library/debian", "registry-1.docker.io", "hub/library/debian"),
        ("app", "registry.example:5000", "peer/app"),
        ("library/debian", "", "hub/library/debian"),
        ("demo/digits", "", None),  # ours, and never Docker's of the same name
        ("app", "quay.io", None),
    ],
)
def test_a_mirror_stands_for_the_registry_that_is_named(repository: str, namespace: str, expected: str | None) -> None:
    assert find_mirrored([HUB, DEEP, PEER], repository, namespace) == expected


def test_a_mirror_of_docker_s_registry_takes_its_library() -> None:
    assert [name for name in ("hub", "library", "demo") if HUB.takes(name)] == ["hub", "library"]
    assert not PEER.takes("library")


def test_patterns_allow_one_repository_or_all_below() -> None:
    upstream = Upstream("hub", "docker.io", only=("library/*", "bitnami/redis"))
    allowed = [
        name for name in ("library/debian", "library", "bitnami/redis", "bitnami/redis2") if upstream.allows(name)
    ]
    assert allowed == ["library/debian", "bitnami/redis"]
    assert HUB.allows("anything/at/all")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Hub"},
        {"name": "hub/"},
        {"name": ""},
        {"name": "a" * 201},
        {"registry": ""},
        {"registry": "https://docker.io"},
        {"registry": "docker.io/library"},
        {"registry": "host:0"},
        {"registry": "host:65536"},
        {"registry": "user@host"},
        {"username": "u"},
        {"password": "p"},
        {"username": "u:v", "password": "p"},
        {"ttl_s": -1.0},
        {"ttl_s": float("nan")},
        {"ttl_s": float("inf")},
        {"only": ("*",)},
        {"only": ("Library/*",)},
        {"is_plain_http": True, "ca_pem": "x"},
        {"ca_pem": "x" * 2_000_000},
    ],
)
def test_what_cannot_be_a_rule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        Upstream(**{"name": "hub", "registry": "docker.io"} | wrong)  # type: ignore[arg-type]


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_a_rule_or_refused(name: str, registry: str) -> None:
    try:
        upstream = Upstream(name, registry)
    except Invalid:
        return
    assert "/" not in upstream.registry
    assert upstream.find_remote(f"{name}/a/b") == "a/b"


def test_a_password_is_not_shown() -> None:
    assert "s3cret" not in repr(Upstream("hub", "docker.io", username="u", password="s3cret"))
