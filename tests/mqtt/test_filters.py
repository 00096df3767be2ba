"""Topic filters match as section 4.7 says."""

import pytest

from sanderling.mqtt import is_valid_filter, is_valid_topic, matches


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a", True),
        ("#", "$iothub/x", False),
        ("+/x", "$iothub/x", False),
        ("$iothub/#", "$iothub/x", True),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/+/c", "a/b/c", True),
        ("/a", "a", False),
    ],
)
def test_a_filter_matches_what_the_specification_says(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


def test_wildcards_stand_alone_and_the_hash_is_last() -> None:
    assert all(is_valid_filter(f) for f in ("#", "+", "a/+/b/#", "/", "a//b"))
    assert not any(is_valid_filter(f) for f in ("", "a#", "#/a", "a+/b", "\0", "x" * 70_000))


def test_a_topic_holds_no_wildcard() -> None:
    assert is_valid_topic("$iothub/twin/GET/?$rid=1")
    assert not any(is_valid_topic(t) for t in ("", "a/#", "+", "\0"))
