from datetime import UTC, datetime, timedelta

import pytest

from sanderling.cli.output import age_text, pairs_of, size_text
from sanderling.errors import Invalid

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (48_200_000, "48.2 MB")],
)
def test_sizes_are_for_people(size: int | None, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s ago"), (12, "12 s ago"), (200, "3 min ago"), (7200, "2 h ago"), (864_000, "2026-04-21 12:00")],
)
def test_ages_are_for_people(seconds: int, text: str) -> None:
    assert age_text(NOW - timedelta(seconds=seconds), NOW) == text


def test_what_never_was_is_never() -> None:
    assert age_text(None) == "never"


def test_pairs_keep_what_follows_the_first_sign() -> None:
    assert pairs_of("tag", ["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(Invalid):
        pairs_of("tag", ["=b"])
