import pytest

from sanderling.image.schema import SchemaInvalid, check_schema


def test_what_generate_schema_wrote_is_taken() -> None:
    check_schema(b'{"input": {"data": {"internal": "gASV", "swagger": {}, "type": 1}}, "output": {}}', "schema.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{\n'a': 1}", "schema.json, line 2: this is no JSON"),
        (b"[]", "schema.json: this is JSON, and no object"),
        (b"\xff", "schema.json: this is no JSON"),
        (b"[" * 100_000, "schema.json: this is no JSON"),
    ],
)
def test_what_is_no_schema_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(SchemaInvalid, match=words):
        check_schema(content, "schema.json")
