import json

import pytest

from sanderling.errors import Invalid
from sanderling.iot import documents


@pytest.mark.parametrize(
    "raw",
    [b'{"a":"\\ud800"}', b'{"\\uDFFF":1}', '{"a":"\ud800"}', b'{"a":NaN}', b"\xff", b"[" * 100_000, b"[]"],
)
def test_what_cannot_be_written_again_is_refused(raw: bytes | str) -> None:
    with pytest.raises(Invalid):
        documents.parse_object(raw, "the twin")


def test_whole_pairs_are_taken() -> None:
    raw = b'{"a":"\\ud83d\\ude00"}'
    assert documents.compact(documents.parse_object(raw, "the twin")) == '{"a":"\U0001f600"}'.encode()
    assert documents.parse_object(json.dumps({"a": "\U0001f600"}), "the twin") == {"a": "\U0001f600"}
