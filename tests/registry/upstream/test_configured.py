from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.registry import Upstream, parse_upstream, read_upstreams


def test_an_option_names_prefix_and_registry() -> None:
    assert parse_upstream("hub=docker.io") == Upstream("hub", "docker.io")
    for wrong in ("hub", "=docker.io", "hub=", "hub=https://docker.io"):
        with pytest.raises(Invalid):
            parse_upstream(wrong)


def test_a_file_lists_upstreams_with_their_secrets_beside_it(tmp_path: Path) -> None:
    (tmp_path / "hub.secret").write_text("s3cret word\n")
    file = tmp_path / "upstreams.toml"
    file.write_text(
        '[hub]\nregistry = "docker.io"\nusername = "ci"\npassword_file = "hub.secret"\nttl = 60\n'
        'only = ["library/*"]\nmirror = true\n[peer]\nregistry = "host:5000"\nplain_http = true\n'
    )
    assert read_upstreams(file) == (
        Upstream(
            "hub", "docker.io", username="ci", password="s3cret word", ttl_s=60, is_mirror=True, only=("library/*",)
        ),
        Upstream("peer", "host:5000", is_plain_http=True),
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[hub", "not TOML"),
        ("hub = 1", "no table"),
        ("[hub]", "needs registry"),
        ('[hub]\nregistry = "docker.io"\npasword_file = "x"', "pasword_file"),
        ('[hub]\nregistry = "docker.io"\nttl = "1h"', "ttl"),
        ('[hub]\nregistry = "docker.io"\nttl = true', "ttl"),
        ('[hub]\nregistry = "docker.io"\nonly = [1]', "only"),
        ('[hub]\nregistry = "docker.io"\nusername = "ci"\npassword_file = "missing"', "missing"),
        ('[hub]\nregistry = "docker.io"\nca_file = "upstreams.toml"', "certificate"),
        ('[Hub]\nregistry = "docker.io"', "Hub"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "upstreams.toml"
    file.write_text(content)
    with pytest.raises(Invalid, match=words):
        read_upstreams(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400))
def test_any_bytes_are_a_file_or_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "upstreams.toml"
    file.write_bytes(content)
    with suppress(Invalid):
        read_upstreams(file)
