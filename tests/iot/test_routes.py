"""Routes and their conditions do what IoT Edge's do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.iot import Message, ModuleInput, Route, Routes, Upstream
from sanderling.iot.condition_parser import UNDEFINED
from sanderling.iot.conditions import Condition

BODY = {"a": {"b": [1, "x"]}, "n": 5, "t": "text", "f": True, "z": None}
MESSAGE = Message(
    json.dumps(BODY).encode(),
    "d1",
    "cam",
    output="out1",
    properties={"Level": "high", "count": "12", "$odd": "yes", "none": None},
    system_properties={"contentType": "application/json; charset=utf-8", "contentEncoding": "utf-8"},
)
TO_INPUT = 'INTO BrokeredEndpoint("/modules/score/inputs/amlInput")'


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/*", True),
        ("/messages/*", True),
        ("/messages", True),
        ("/messages/modules/*", True),
        ("/messages/modules/CAM/*", True),
        ("/messages/modules/cam/outputs/*", True),
        ("/messages/modules/cam/outputs/out1", True),
        ("/messages/modules/cam/outputs/out", False),
        ("/messages/modules/ca/*", False),
        ("/messages/modules/*/outputs/out1", True),
        ("/messages/events", False),
        ("/*/messages/*", False),
        ("/twinChangeNotifications/*", False),
    ],
)
def test_from_matches_whole_levels(path: str, expected: bool) -> None:
    assert Route.parse(f"FROM {path} INTO $upstream").matches(MESSAGE) is expected


def test_sources_without_output_or_module() -> None:
    assert Route.parse("from /messages/modules/cam/* into $UPSTREAM").matches(Message(b"", "d1", "cam"))
    assert Route.parse("FROM /messages/* INTO $upstream").matches(Message(b"", "leaf"))
    assert Route.parse("FROM /twinChangeNotifications/* INTO $upstream").matches(MESSAGE, "/twinChangeNotifications")


def test_sinks_are_read() -> None:
    assert Route.parse("SELECT * FROM /messages/* INTO $upstream").sink == Upstream()
    assert Route.parse(f"FROM /messages/* {TO_INPUT}").sink == ModuleInput("score", "amlInput")
    assert Route.parse("FROM /* INTO brokeredendpoint('/modules/a/inputs/b');").sink == ModuleInput("a", "b")


def test_a_message_goes_once_to_each_sink() -> None:
    routes = Routes.parse(
        {
            "a": "FROM /messages/* INTO $upstream",
            "b": "FROM /* INTO $upstream",
            "c": f"FROM /messages/* WHERE level = ' INTO ' {TO_INPUT}",
            "d": f"FROM /messages/* WHERE level = 'high' {TO_INPUT}",
        }
    )
    assert list(routes.sinks(MESSAGE)) == [("a", Upstream()), ("d", ModuleInput("score", "amlInput"))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FROM /messages/*",
        "FROM messages INTO $upstream",
        "FROM /messages/* INTO $downstream",
        "FROM /messages/* INTO BrokeredEndpoint('/modules/a')",
        "FROM /messages/* INTO BrokeredEndpoint('/modules/a b/inputs/c')",
        "FROM /messages/* WHERE INTO $upstream",
        "FROM /messages/* WHERE a = 'b' INTO $upstream and more",
        "x" * 20_000,
    ],
)
def test_a_bad_route_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid, match="'mine'"):
        Routes.parse({"mine": text})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "level = 'high'",
        'LEVEL = "high"',
        "level != 'low' and level <> 'low'",
        "level > 'hi' AND level <= 'high'",
        "as_number(count) > 0x0A",
        "as_number(count) % 5 = 2",
        "-as_number(count) < 0",
        "NOT (level = 'low')",
        "$body.n = 5 and $body.n < 5.5",
        "$body.a.b[0] = 1",
        "$body.a.b[1] = 'x'",
        "$body.f = true",
        "$body.f",
        "$body.z = null",
        "is_null($body.z) and not is_null($body.n)",
        "not is_defined($body.missing) and is_defined(level)",
        "is_string($body.t) and is_number($body.n) and is_bool($body.f)",
        "$odd = 'yes'",
        "$n = 5",
        "$connectionModuleId = 'cam'",
        "{$outputName} = 'out1'",
        "{$connectionDeviceId} = 'd1'",
        "missing = 'x' or level = 'high'",
        "(missing ?? 'x') = 'x'",
        "level || '-' || count = 'high-12'",
        "concat(level, count) = 'high12'",
        "length(level) = 4 and upper(level) = 'HIGH' and lower('A') = 'a'",
        "substring(level, 1, 2) = 'ig' and substring(level, 2) = 'gh'",
        "index_of(level, 'g') = 2 and contains(level, 'ig')",
        "starts_with(level, 'hi') and ends_with(level, 'gh')",
        "abs(-2) = 2 and square(3) = 9 and power(2, 3) = 8 and sqrt(9) = 3",
        "ceiling(1.2) = 2 and floor(1.8) = 1 and sign(-3) = -1 and exp(0) = 1",
        "1 / 0 != 1",
        "1 + 2 * 3 - 1 = 6",
        "twin_change_includes('a.b')",
        r"""'it\'s' = "it's" """.strip(),
    ],
)
def test_a_true_condition_routes(text: str) -> None:
    assert Condition.parse(text).is_true(MESSAGE)


@pytest.mark.parametrize(
    "text",
    [
        "level = 'low'",
        "missing = 'x'",
        "not (missing = 'x')",
        "missing = 'x' and level = 'high'",
        "none = 'x'",
        "$body.n = '5'",
        "$body.t > 1",
        "$body.a = 1",
        "$body.a.b[9] = 1",
        "$body.t.x = 1",
        "$body.z < null",
        "$body.f < true",
        "undefined",
        "as_number(level) > 0",
        "as_number(1) > 1",
        "$body.t + 1 = 2",
        "1 / 0 = 1",
        "5 % 0 < 1",
        "sqrt(-1) < 1",
        "length($body.n) = 1",
        "substring($body.n, 1) = 'x'",
        "substring(level, -1) = 'x'",
        "twin_change_includes('q')",
        "twin_change_includes(1)",
        "$nowhere = 'x'",
        "false",
        "power(10, 400) < 1",
        "not $body.n",
        "missing || 'x' = 'x'",
        "as_number($body.f) = 1",
        "dotted.name = 'x'",
    ],
)
def test_false_and_undefined_do_not_route(text: str) -> None:
    assert not Condition.parse(text).is_true(MESSAGE)


@pytest.mark.parametrize(
    "text",
    [
        "level == 'high'",
        "level = 5",
        "level",
        "5",
        "level + 1 = 2",
        "-level = 1",
        "NOT level = 'x'",
        "nothing(1)",
        "abs(1, 2) = 1",
        "abs(1 = 1",
        "(level = 'x'",
        "level = 'x' level",
        "level = ",
        "level = and",
        "$body. = 1",
        "$body[x] = 1",
        "$body[1.5] = 1",
        "$body[1 = 1",
        "level = ^",
        ") = 1",
        "(" * 100 + "true" + ")" * 100,
        "not " * 100 + "true",
        "true or " * 2000 + "true",
    ],
)
def test_what_can_be_known_to_be_wrong_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("body", "system"),
    [
        (b'{"n":5}', {}),
        (b'{"n":5}', {"contentType": "text/plain", "contentEncoding": "utf-8"}),
        (b'{"n":5}', {"contentType": "application/json", "contentEncoding": "latin-1"}),
        (b"{", {"contentType": "application/json", "contentEncoding": "utf-8"}),
        (b"\xff", {"contentType": "application/json", "contentEncoding": "utf-8"}),
        (b"[" * 100_000, {"contentType": "application/json", "contentEncoding": "utf-8"}),
    ],
)
def test_a_body_that_is_not_said_to_be_json_is_not_read(body: bytes, system: dict[str, str]) -> None:
    assert not Condition.parse("$body.n = 5").is_true(Message(body, "d1", system_properties=system))


@given(st.text(alphabet="abz019 '\"()<>=!.$[]{}+-*/%|?,ORNTAD\\", max_size=40))
def test_hostile_text_is_a_condition_or_invalid(text: str) -> None:
    try:
        condition = Condition.parse(text)
    except Invalid:
        return
    assert condition.is_true(MESSAGE) in (True, False)


def test_what_is_not_there_says_so() -> None:
    assert repr(UNDEFINED) == "UNDEFINED"
