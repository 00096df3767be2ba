import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.oci import WireError, error_document, parse_error_document


@pytest.mark.parametrize("code", WireError)
def test_every_code_can_be_sent_and_read(code: WireError) -> None:
    document = error_document(code, "more", {"name": "x"})
    assert parse_error_document(json.dumps(document).encode()) == [(code.name, "more")]
    assert document["errors"][0]["detail"] == {"name": "x"}
    assert 400 <= code.status < 600


def test_without_a_message_the_general_one_is_sent() -> None:
    assert error_document(WireError.DENIED) == {
        "errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]
    }


@given(st.binary())
def test_any_bytes_may_come_instead_of_an_error_document(raw: bytes) -> None:
    assert isinstance(parse_error_document(raw), list)


@pytest.mark.parametrize("raw", [b"[]", b'{"errors":"x"}', b'{"errors":{"a":1}}', b'{"errors":[1]}', b"[" * 100_000])
def test_what_is_no_error_document_has_no_errors(raw: bytes) -> None:
    assert parse_error_document(raw) == []
