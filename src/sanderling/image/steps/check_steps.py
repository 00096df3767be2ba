"""What of a Dockerfile can never be done is refused before anything is fetched."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sanderling.dockerfile import Copy, DockerfileInvalid, Evaluated, Run, evaluate, parse_dockerfile
from sanderling.errors import Invalid
from sanderling.image.layers.tree import safe_path
from sanderling.image.local.engine import Engine, NoEngine
from sanderling.image.recipe import APP_ROOT, Recipe
from sanderling.image.steps.context import pick
from sanderling.image.steps.engine import find_run_engine
from sanderling.oci import Platform

MAX_STEPS = 60  # each is a layer, and engines take 127 of them
# By these the scoring server finds what it runs, and an engine finds the server.
_OURS = ("AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT", "AZUREML_MODEL_DIR", "SERVER_PORT")
_OUR_LABELS = "io.sanderling."


def check_steps(recipe: Recipe, content: bytes) -> Evaluated:
    """Refuse the Dockerfile *content* of *recipe* when its steps cannot be done.

    Raises DockerfileInvalid with the line.
    """
    file = recipe.dockerfile.path if recipe.dockerfile else "Dockerfile"
    seen: set[str] = set()
    for one in recipe.context:
        path = safe_path(one.path, "the Dockerfile's files")
        if path in seen:
            raise DockerfileInvalid(f"the file {path} is given twice", file=file)
        seen.add(path)
    evaluated = evaluate_steps(content, file, recipe.variables())
    for step in evaluated.steps:
        if isinstance(step, Copy):
            pick(step, recipe.context)
    run = next((step for step in evaluated.steps if isinstance(step, Run)), None)
    if run is not None:
        engine_for(run, recipe.platforms)
    return evaluated


def read_dockerfile(recipe: Recipe) -> tuple[bytes, str]:
    """The content of the recipe's Dockerfile, and what messages call it. Raises Invalid."""
    assert recipe.dockerfile is not None
    try:
        return recipe.dockerfile.source.read_bytes(), recipe.dockerfile.path
    except OSError as e:
        raise Invalid(f"{recipe.dockerfile.path} cannot be read: {e.strerror}") from e


def count_steps(recipe: Recipe) -> int:
    """How many layers the recipe's steps may make."""
    return len(evaluate_steps(*read_dockerfile(recipe), recipe.variables()).steps) if recipe.dockerfile else 0


def evaluate_steps(content: bytes, file: str, env: Mapping[str, str]) -> Evaluated:
    """The steps of *content*, upon an image with the variables *env*. Raises DockerfileInvalid with the line."""
    instructions = parse_dockerfile(content, file)
    evaluated = evaluate(instructions, env, f"/{APP_ROOT}", kept=_OURS, kept_labels=_OUR_LABELS)
    if len(evaluated.steps) > MAX_STEPS:
        raise evaluated.steps[MAX_STEPS].at.refuse(
            f"more than {MAX_STEPS} steps make layers; copy folders in place of files"
        )
    return evaluated


def engine_for(step: Run, platforms: Sequence[Platform]) -> Engine:
    """The engine that runs *step* for *platforms*. Raises DockerfileInvalid."""
    ways = "name packages in the environment file, or build upon an image that has what this step makes (base)"
    try:
        engine = find_run_engine()
    except NoEngine as e:
        raise step.at.refuse(
            f"RUN needs a container engine, and {'; '.join(e.reasons)}; start or install one, {ways}"
        ) from e
    for platform in platforms:
        if not engine.platform.runs(platform):
            raise step.at.refuse(
                f"RUN runs programs of the image, and {Path(engine.program).name} here runs those of "
                f"{engine.platform}, not of {platform}; build that platform on a machine of its kind, {ways}"
            )
    return engine
