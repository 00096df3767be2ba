from collections.abc import Callable
from pathlib import Path

import pytest

from sanderling.errors import Denied, Invalid, Unavailable
from sanderling.image import Environment, Event, Log
from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.packages.resolve import Resolver, logins, parse_lock
from sanderling.image.packages.uv_errors import ResolutionFailed, explain
from sanderling.oci import Platform

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
MakeIndex = Callable[..., str]


@pytest.fixture
def resolver(tmp_path: Path, log: Log) -> Resolver:
    return Resolver(tmp_path / "cache", log)


@pytest.fixture
def index(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> str:
    url = make_index(
        ("alpha", "1.0", ["beta>=2"]), ("beta", "1.0", []), ("beta", "2.0", []), ("gamma", "1.0", ["beta<2"])
    )
    monkeypatch.setenv("UV_DEFAULT_INDEX", url)
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    return url


def test_an_index_that_is_a_folder_of_this_machine_works(resolver: Resolver, index: str) -> None:
    wheels = resolver.resolve(Environment(requirements=("alpha",)), AMD64, DEBIAN_12)
    assert [(wheel.name, wheel.version) for wheel in wheels] == [("alpha", "1.0"), ("beta", "2.0")]
    assert all(wheel.url.startswith("file://") and wheel.sha256 for wheel in wheels)
    assert wheels[0].file_name == "alpha-1.0-py3-none-any.whl"


def test_a_choice_is_kept_and_serves_when_the_index_is_away(
    resolver: Resolver, index: str, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment(requirements=("alpha",))
    first = resolver.resolve(environment, AMD64, DEBIAN_12)
    monkeypatch.setenv("PATH", "")
    assert resolver.resolve(environment, AMD64, DEBIAN_12) == first
    assert "as chosen at" in events[-1].text


@pytest.mark.parametrize(
    ("requirements", "package", "words"),
    [
        (("nowhere-to-be-found",), "nowhere-to-be-found", "no index has it"),
        (("beta==9.0",), "beta", r"no version satisfies beta==9\.0"),
        (("alpha", "gamma"), None, "contradict each other|no set of packages"),
        (("beta==1.0", "beta==2.0"), "beta", r"contradict each other: beta==1\.0, beta==2\.0"),
    ],
)
def test_what_uv_finds_wrong_names_the_package_and_the_way_out(
    resolver: Resolver, index: str, requirements: tuple[str, ...], package: str | None, words: str
) -> None:
    with pytest.raises(ResolutionFailed, match=words) as caught:
        resolver.resolve(Environment(requirements=requirements), AMD64, DEBIAN_12)
    assert package is None or caught.value.package == package


def test_a_package_without_a_wheel_for_the_platform_is_named(
    resolver: Resolver, tmp_path: Path, make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "simple" / "alpha"
    page.mkdir(parents=True)
    wheel = make_wheel("alpha", "1.0", {}, tag="cp311-cp311-manylinux_2_17_x86_64", folder=page)
    (page / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "simple").as_uri())
    assert len(resolver.resolve(Environment(requirements=("alpha",)), AMD64, DEBIAN_12)) == 1
    with pytest.raises(ResolutionFailed, match="no wheel for linux/arm64") as caught:
        resolver.resolve(Environment(requirements=("alpha",)), ARM64, DEBIAN_12)
    assert caught.value.package == "alpha"


def test_an_index_that_does_not_answer_is_unavailable(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(Unavailable, match="did not answer") as caught:
        resolver.resolve(Environment(requirements=("alpha",)), AMD64, DEBIAN_12)
    assert "secret" not in caught.value.message


def test_a_platform_that_cannot_be_built_is_refused(resolver: Resolver) -> None:
    with pytest.raises(Invalid, match=r"possible are linux/amd64, linux/arm64"):
        resolver.resolve(Environment(requirements=("alpha",)), Platform("linux", "s390x"), DEBIAN_12)


def test_an_empty_environment_needs_no_index(resolver: Resolver) -> None:
    assert resolver.resolve(Environment(), AMD64, DEBIAN_12) == []


HASHES = 'hashes = { sha256 = "' + "ab" * 32 + '" }'
LOCK = f"""
[[packages]]
name = "two"
version = "1.0"
wheels = [
  {{ url = "https://me:secret@example.org/two-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", {HASHES} }},
  {{ url = "https://example.org/two-1.0-py3-none-any.whl", {HASHES} }},
  {{ url = "https://example.org/two-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", size = 7, {HASHES} }},
]
"""


def test_of_several_wheels_the_one_that_fits_best_is_taken() -> None:
    (wheel,) = parse_lock(LOCK, Path("/x/pylock.toml"), AMD64, DEBIAN_12)
    assert wheel.file_name == "two-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    assert (wheel.size_bytes, wheel.sha256) == (7, "ab" * 32)


def test_credentials_of_an_index_are_not_in_the_choice() -> None:
    (wheel,) = parse_lock(LOCK.replace("_2_28_", "_2_99_"), Path("/x/pylock.toml"), AMD64, DEBIAN_12)
    assert wheel.url == "https://example.org/two-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"


def test_a_package_that_is_no_wheel_is_refused() -> None:
    with pytest.raises(Invalid, match="'a' is not there as a wheel"):
        parse_lock(
            '[[packages]]\nname = "a"\nsdist = { url = "https://x/a.tar.gz" }\n',
            Path("/x/pylock.toml"),
            AMD64,
            DEBIAN_12,
        )


def test_logins_come_from_uvs_variables_and_the_environment_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", "mine=https://me:p%40ss@one.example.org:8443/simple https://two.example.org/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "our-own=https://four.example.org/simple")
    monkeypatch.setenv("UV_INDEX_OUR_OWN_USERNAME", "us")
    monkeypatch.setenv("UV_INDEX_OUR_OWN_PASSWORD", "pass")
    environment = Environment(options=("--extra-index-url https://you:word@three.example.org/simple",))
    found = logins(environment)
    assert found["one.example.org:8443"] == ("me", "p@ss")
    assert found["three.example.org"] == ("you", "word")
    assert found["four.example.org"] == ("us", "pass")
    assert "two.example.org" not in found
    assert "word" not in repr(environment)


def test_an_index_that_asks_for_a_password_is_denied() -> None:
    text = "error: Failed to fetch: `https://me:secret@example.org/simple/a/`\n  cause: HTTP status"
    error = explain(f"{text} client error (401 Unauthorized)", AMD64, DEBIAN_12, Environment())
    assert isinstance(error, Denied)
    assert "secret" not in error.message


def test_an_error_that_we_do_not_know_is_passed_on() -> None:
    assert "something new" in explain("error: something new", AMD64, DEBIAN_12, Environment()).message
