from pathlib import Path

import pytest

from sanderling.errors import Invalid
from sanderling.image import Recipe, SourceFile

SCRIPT = SourceFile("score.py", Path("/x/score.py"))


def test_requirements_and_wheels_survive_the_way_to_the_worker() -> None:
    recipe = Recipe(
        "demo/digits:1",
        SCRIPT,
        requirements=SourceFile("requirements.txt", Path("/x/r")),
        wheels=(SourceFile("wheels/a-1-py3-none-any.whl", Path("/x/a")),),
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.named_by_path() == {"wheels/a-1-py3-none-any.whl": Path("/x/a")}


def test_a_document_from_before_there_were_requirements_is_read() -> None:
    recipe = Recipe("demo/digits:1", SCRIPT)
    old = {key: value for key, value in recipe.to_json().items() if key not in ("requirements", "wheels")}
    assert Recipe.from_json(old) == recipe


def test_two_environments_are_refused() -> None:
    with pytest.raises(Invalid, match="give one of them"):
        Recipe("demo/digits:1", SCRIPT, environment=SCRIPT, requirements=SCRIPT)
