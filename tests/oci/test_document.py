import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.oci import canonical_json, parse_document
from sanderling.oci.document import MAX_CONTAINERS, MAX_DEPTH, refuse_other_case

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=4))
def test_canonical_json_reads_back_and_has_one_form(document: dict[str, Any]) -> None:
    raw = canonical_json(document)
    assert parse_document(raw) == document
    assert canonical_json(dict(reversed(document.items()))) == raw


@given(st.binary())
def test_any_bytes_are_a_document_or_invalid(raw: bytes) -> None:
    with contextlib.suppress(Invalid):
        assert isinstance(parse_document(raw), dict)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"a":1}x',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"\\uD800":1}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * (MAX_DEPTH) + b"]" * (MAX_DEPTH) + b"}",
        b'{"' + b'\\"' * 1_000_000,
        b"[" * 4_000_000,
        b" " * (4 * 1024 * 1024 + 1),
        b'{"a":"' + b"x" * (4 * 1024 * 1024) + b'"}',
    ],
)
def test_hostile_bytes_are_refused_soon(raw: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(Invalid):
        parse_document(raw)
    assert time.monotonic() - started < 30


def test_a_document_may_nest_to_the_limit() -> None:
    inner = MAX_DEPTH - 1
    assert parse_document(b'{"a":' + b"[" * inner + b"]" * inner + b"}")


def test_brackets_inside_texts_do_not_count_as_depth() -> None:
    document = {"a": '[{"' * 1000 + "\\"}
    assert parse_document(json.dumps(document).encode()) == document


def test_a_whole_pair_of_surrogates_is_text() -> None:
    assert parse_document(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_a_document_has_a_limited_number_of_objects_and_lists() -> None:
    for piece in ("{}", "[]"):
        most = ",".join([piece] * (MAX_CONTAINERS - 2))
        assert parse_document(f'{{"a":[{most}]}}'.encode())
        with pytest.raises(Invalid, match="objects and lists"):
            parse_document(f'{{"a":[{most},{piece}]}}'.encode())


def test_keys_that_differ_from_known_ones_in_case_are_refused() -> None:
    known = frozenset({"layers", "mediaType", "size"})
    refuse_other_case({"layers": 1, "Other": 2, "other": 3, "": 4, "ſ": 5}, known, "manifest")
    for key in ("Layers", "LAYERS", "mediatype", "layerſ", "Size", "ſize"):
        with pytest.raises(Invalid, match="another case"):
            refuse_other_case({key: 1}, known, "manifest")
