from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.image.environment.match_spec import MatchSpec, MatchSpecInvalid, parse_match_spec


@pytest.mark.parametrize(
    ("text", "name", "version", "build", "channel", "others"),
    [
        ("numpy", "numpy", "", None, None, ()),
        ("NumPy", "numpy", "", None, None, ()),
        ("numpy=1.26", "numpy", "=1.26", None, None, ()),
        ("numpy =1.26", "numpy", "=1.26", None, None, ()),
        ("numpy==1.26.4", "numpy", "==1.26.4", None, None, ()),
        ("numpy 1.26", "numpy", "1.26", None, None, ()),
        ("numpy=1.26=py311_0", "numpy", "=1.26", "py311_0", None, ()),
        ("numpy 1.26 py311*", "numpy", "1.26", "py311*", None, ()),
        ("numpy >=1, <2", "numpy", ">=1,<2", None, None, ()),
        ("numpy>=1,<2 py311_0", "numpy", ">=1,<2", "py311_0", None, ()),
        ("numpy >= 1.2 | 1.0", "numpy", ">=1.2|1.0", None, None, ()),
        ("numpy (>=1,<2)|3.0", "numpy", "(>=1,<2)|3.0", None, None, ()),
        ("numpy~=1.26", "numpy", "~=1.26", None, None, ()),
        ("numpy!=1.26.1", "numpy", "!=1.26.1", None, None, ()),
        ("numpy *", "numpy", "*", None, None, ()),
        ("numpy=1.26.*", "numpy", "=1.26.*", None, None, ()),
        ("conda-forge::numpy=1.26", "numpy", "=1.26", None, "conda-forge", ()),
        ("conda-forge/linux-64::numpy", "numpy", "", None, "conda-forge", ("subdir",)),
        ("https://example.org/mine::numpy", "numpy", "", None, "https://example.org/mine", ()),
        ("numpy[version='>=1,<2', build=py*]", "numpy", ">=1,<2", "py*", None, ()),
        ('numpy[channel=mine,version="1.2",sha256=ab]', "numpy", "1.2", None, "mine", ("sha256",)),
        ("numpy 1.2[build_number=3]", "numpy", "1.2", None, None, ("build_number",)),
        ("_libgcc_mutex=0.1=main", "_libgcc_mutex", "=0.1", "main", None, ()),
        ("https://example.org/c/linux-64/libx-y-1.0-h_0.tar.bz2#abc", "libx-y", "", None, None, ("url",)),
    ],
)
def test_every_form_of_conda_is_read(
    text: str, name: str, version: str, build: str | None, channel: str | None, others: tuple[str, ...]
) -> None:
    assert parse_match_spec(text) == MatchSpec(text, name, version, build, channel, others)


@pytest.mark.parametrize(
    ("version", "meant"),
    [
        ("", [""]),
        (" *", [""]),
        ("=1.2", ["==1.2.*"]),
        (" 1.2*", ["==1.2.*"]),
        (" 1.2.*", ["==1.2.*"]),
        (" 1.2", ["==1.2"]),
        (">=1.2.*,<2", ["<2,>=1.2"]),
        (" !=1.2.*", ["!=1.2.*"]),
        (" 1.2|>=3", ["==1.2", ">=3"]),
        (" (1.2|1.3)", None),
        (" 1.2_3x", None),
    ],
)
def test_constraints_are_said_in_pypis_words_where_it_has_them(version: str, meant: list[str] | None) -> None:
    found = parse_match_spec(f"x{version}").specifiers()
    assert (None if found is None else [",".join(sorted(str(each).split(","))) for each in found]) == meant


@pytest.mark.parametrize("text", ["", "=1.2", "numpy=one", "numpy >=1,,<2", "numpy[", "numpy[a]", "x @ y", "x; z", "*"])
def test_what_is_no_specification_is_refused(text: str) -> None:
    with pytest.raises(MatchSpecInvalid):
        parse_match_spec(text)


@given(st.text(alphabet="ab1.=<>!~,|()[]'\":/* -^$", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(MatchSpecInvalid):
        parse_match_spec(text).specifiers()
