from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sanderling.portal import formats

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (588_120, "588 kB"),
        (999_700, "1.00 MB"),
        (31_442_100, "31.4 MB"),
        (3_210_000_000, "3.21 GB"),
    ],
)
def test_a_size_has_three_figures(count: int | None, text: str) -> None:
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0.0 s"), (9.94, "9.9 s"), (21.4, "21 s"), (59.6, "1 min 0 s"), (3661, "1 h 1 min")],
)
def test_a_duration_has_at_most_two_units(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("passed_s", "text"),
    [
        (0, "just now"),
        (40, "40 s ago"),
        (310, "5 min ago"),
        (7300, "2 h ago"),
        (400_000, "4 d ago"),
        (-900, "in 15 min"),
    ],
)
def test_an_age_counts_from_now(passed_s: int, text: str) -> None:
    assert formats.age(NOW - timedelta(seconds=passed_s), NOW) == text


def test_a_time_that_never_was_is_never() -> None:
    assert formats.parse_time("0001-01-01T00:00:00Z") is None
    assert formats.parse_time("yesterday") is None
    assert formats.age(None, NOW) == "never"
    assert formats.moment(None) == "–"


def test_a_time_without_zone_is_utc() -> None:
    assert formats.parse_time("2026-03-01T12:00:00") == NOW
    assert formats.moment(NOW) == "2026-03-01 12:00:00 UTC"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert formats.cut("abcdef", 4) == "abcd… (2 more characters)"
    assert formats.one_line("a\nb" * 200).endswith("…")
    assert len(formats.one_line({"k": "v" * 10_000})) == formats.LINE_CHARS + 1


def test_pretty_json_keeps_a_list_of_numbers_on_one_line() -> None:
    value = {"pixels": [0, 5, 13], "rows": [{"a": None}, []], "name": "é"}
    assert formats.pretty(value).splitlines() == [
        "{",
        '  "pixels": [0, 5, 13],',
        '  "rows": [',
        "    {",
        '      "a": null',
        "    },",
        "    []",
        "  ],",
        '  "name": "é"',
        "}",
    ]


def test_a_body_nested_without_end_is_shown_as_such() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    assert "nested too deeply" in formats.pretty(value)
    assert formats.one_line(value) == formats.TOO_DEEP


def test_digests_are_shortened() -> None:
    assert formats.short_digest("sha256:" + "ab" * 32) == "sha256:abababababab"
    assert formats.short_digest(None) == "–"
