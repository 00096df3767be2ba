from pathlib import Path

import pytest

from sanderling.image import Recipe, SourceFile
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


def test_a_recipe_keeps_its_schema_and_has_it_once_beside_the_script() -> None:
    script, schema = SourceFile("score.py", Path("/a/score.py")), SourceFile("s/schema.json", Path("/a/s/schema.json"))
    recipe = Recipe("demo/digits:1", script, schema=schema)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.application_files() == (script, schema)
    assert Recipe("demo/digits:1", script, files=(schema,), schema=schema).application_files() == (script, schema)
    older = {key: value for key, value in recipe.to_json().items() if key != "schema"}
    assert Recipe.from_json(older).schema is None
