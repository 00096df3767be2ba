"""Twins merge, count their versions, and stay inside their limits."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.iot import Section, TwinLimits, documents
from sanderling.iot.twin import check, difference, merge

keys = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=2),
    lambda below: st.dictionaries(keys, below, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=3)


@given(objects, objects)
def test_the_difference_patches_the_one_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert merge(before, difference(before, after)) == after


@given(objects, objects)
def test_a_merge_changes_neither_side(document: dict[str, Any], patch: dict[str, Any]) -> None:
    kept = documents.compact([document, patch])
    merge(document, patch)
    assert documents.compact([document, patch]) == kept


def test_true_and_one_are_different() -> None:
    assert difference({"a": 1}, {"a": True}) == {"a": True}


def test_null_deletes_and_objects_merge() -> None:
    merged = merge({"a": {"x": 1, "y": 2}, "b": 1, "c": [1]}, {"a": {"x": None, "z": {"n": None}}, "b": None, "c": [2]})
    assert merged == {"a": {"y": 2, "z": {}}, "c": [2]}


def test_each_change_makes_the_version_one_greater() -> None:
    section = Section().patched({"a": {"b": 1}, "$version": 77, "$metadata": {}}, "t2")
    assert (section.values, section.version) == ({"a": {"b": 1}}, 2)
    assert section.metadata["a"]["b"] == {"$lastUpdated": "t2", "$lastUpdatedVersion": 2}
    section = section.patched({"a": None, "c": 1}, "t3")
    assert "a" not in section.metadata
    assert section.to_device_json() == {"c": 1, "$version": 3}
    replaced = section.replaced({"d": 1, "e": None}, "t4")
    assert replaced.to_service_json() == {
        "d": 1,
        "$metadata": {
            "$lastUpdated": "t4",
            "$lastUpdatedVersion": 4,
            "d": {"$lastUpdated": "t4", "$lastUpdatedVersion": 4},
        },
        "$version": 4,
    }


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth > 1 else {"a": 1}


@pytest.mark.parametrize(
    "bad",
    [
        {"a.b": 1},
        {"a$": 1},
        {"a b": 1},
        {"": 1},
        {"\x00": 1},
        {"k" * 1025: 1},
        {"a": "x" * 5000},
        {"a": 2**53 + 1},
        {"a": float("nan")},
        {"a": [[float("inf")]]},
        {"a": ["x" * 3000] * 11},
        nested(11),
        {"a": [[[[[[[[[[[1]]]]]]]]]]]},
    ],
)
def test_what_is_over_a_limit_is_refused(bad: dict[str, Any]) -> None:
    limits = TwinLimits(section_bytes=32 * 1024, string_bytes=4096)
    with pytest.raises(Invalid):
        check("reported", bad, limits)


def test_what_is_inside_the_limits_is_taken() -> None:
    check("tags", {"a": [1, 2.5, None, True, "x"], **nested(10)}, TwinLimits())
    with pytest.raises(Invalid):
        check("tags", {"a": "xx"}, TwinLimits(), limit_bytes=5)


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff", b'{"a":NaN}', b"[" * 100_000])
def test_what_is_no_json_object_is_invalid(raw: bytes) -> None:
    with pytest.raises(Invalid):
        documents.parse_object(raw, "the patch")
