import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.transfer.challenges import Challenge, parse_challenges


def bearer(**parameters: str) -> Challenge:
    return Challenge("bearer", parameters)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="x"'], [Challenge("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://auth/token",service="reg",scope="repository:a/b:pull,push"'],
            [
                Challenge(
                    "bearer", {"realm": "https://auth/token", "service": "reg", "scope": "repository:a/b:pull,push"}
                )
            ],
        ),
        # RFC 9110, section 11.6.1: the example of two challenges in one header
        (
            ['Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'],
            [
                Challenge("basic", {"realm": "simple"}),
                Challenge("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
            ],
        ),
        (["Negotiate", 'Basic realm="x"'], [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (["Negotiate, Basic realm=x"], [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (["Negotiate YII=, Basic realm=x"], [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (['BEARER Realm = "r" ,\t, Service=s'], [Challenge("bearer", {"realm": "r", "service": "s"})]),
        (
            ["Bearer realm=https://auth/token,service=s"],
            [bearer(realm="https://auth/token", service="s")],
        ),
        (
            ['Bearer realm="a, b=c", error="invalid_token"'],
            [bearer(realm="a, b=c", error="invalid_token")],
        ),
        (['Bearer realm="cut off'], [Challenge("bearer", {"realm": "cut off"})]),
        (['Bearer realm="first",realm="second"'], [Challenge("bearer", {"realm": "first"})]),
        (['realm="nobody asks"'], []),
        (["", ",,, ,", '"', "===", "\x00\xff"], []),
    ],
)
def test_challenges_are_read_as_rfc_9110_and_servers_write_them(headers: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(headers) == expected


TOKEN = st.text("abcXYZ019", min_size=1, max_size=8)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
PARAMETERS = st.dictionaries(TOKEN.map(str.lower), VALUE, min_size=1, max_size=4)


@given(st.lists(st.tuples(TOKEN, PARAMETERS), min_size=1, max_size=4), st.booleans())
def test_what_is_written_by_the_rules_is_read_back(made: list[tuple[str, dict[str, str]]], in_one_header: bool) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    headers = [f"{name} " + ", ".join(f"{k}={quoted(v)}" for k, v in fields.items()) for name, fields in made]
    expected = [Challenge(name.lower(), fields) for name, fields in made]
    assert parse_challenges([", ".join(headers)] if in_one_header else headers) == expected


@given(st.lists(st.text(max_size=200), max_size=3))
def test_nothing_raises(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


@pytest.mark.parametrize("piece", ['"', '\\"', "a", "a=", 'a="', ",", " ", "a ", "=", 'x="\\', "a b=c,"])
def test_a_hostile_header_takes_no_time(piece: str) -> None:
    began = time.perf_counter()
    parse_challenges(["Bearer " + piece * 100_000])
    assert time.perf_counter() - began < 1
