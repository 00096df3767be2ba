"""What can never become an image is refused before anything is fetched."""

import os
from pathlib import Path

from sanderling.errors import Invalid, NotFound
from sanderling.image.debian.versions import VERSIONS
from sanderling.image.environment.choose_python import choose_python
from sanderling.image.environment.conda_file import parse_environment
from sanderling.image.environment.environment import Environment
from sanderling.image.environment.requirements_file import parse_requirements
from sanderling.image.recipe import Recipe
from sanderling.image.schema import check_schema
from sanderling.image.script import check_script
from sanderling.image.steps import check_steps


def check(recipe: Recipe) -> Environment:
    """Refuse a recipe that cannot become an image, before anything is fetched; return its environment.

    Raises ScriptInvalid, EnvironmentInvalid, NotFound for a missing file, Invalid for an unreadable one.
    """
    check_script(_read(recipe.script.source, "the scoring script"), recipe.script.path)
    for file in recipe.files:
        _require(file.source, f"the file '{file.path}'")
    if recipe.schema is not None:
        check_schema(_read(recipe.schema.source, "the schema file"), recipe.schema.path)
    for model in recipe.models:
        for path, source in model.files.items():
            _require(source, f"the file '{path}' of model '{model.name}' version {model.version}")
    for file in recipe.wheels:
        _require(file.source, f"the file '{file.path}'")
    if recipe.sample_input is not None:
        _require(recipe.sample_input.source, f"the sample input '{recipe.sample_input.path}'")
    for file in recipe.context:
        _require(file.source, f"the file '{file.path}'")
    if recipe.dockerfile is not None:
        check_steps(recipe, _read(recipe.dockerfile.source, "the Dockerfile"))
    environment = read_environment(recipe)
    if recipe.base is None and environment.conda is None:
        choose_python(environment, [version.python for version in VERSIONS])
    return environment


def read_environment(recipe: Recipe) -> Environment:
    """What the recipe's environment or requirements file says. Raises EnvironmentInvalid."""
    given = recipe.named_by_path()
    if recipe.requirements is not None:
        content = _read(recipe.requirements.source, "the requirements file")
        return parse_requirements(content, recipe.requirements.path, given, os.environ)
    if recipe.environment is not None:
        content = _read(recipe.environment.source, "the environment file")
        return parse_environment(content, recipe.environment.path, given, os.environ)
    return Environment()


def _read(path: Path, what: str) -> bytes:
    _require(path, what)
    try:
        return path.read_bytes()
    except OSError as e:
        raise Invalid(f"{what} cannot be read: {e.strerror}") from e


def _require(path: Path, what: str) -> None:
    if not path.exists():
        raise NotFound(f"{what} is not there: {path.name}")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise Invalid(f"{what} is no file that can be read: {path.name}")
