"""What of a Dockerfile can never be done is refused before anything is fetched."""

from collections.abc import Mapping

from sanderling.dockerfile import Copy, DockerfileInvalid, Evaluated, Run, evaluate, parse_dockerfile
from sanderling.image.layers.tree import safe_path
from sanderling.image.recipe import APP_ROOT, Recipe
from sanderling.image.steps.context import pick

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
        elif isinstance(step, Run):
            raise no_engine(step)
    return evaluated


def evaluate_steps(content: bytes, file: str, env: Mapping[str, str]) -> Evaluated:
    """The steps of *content*, upon an image with the variables *env*. Raises DockerfileInvalid with the line."""
    instructions = parse_dockerfile(content, file)
    evaluated = evaluate(instructions, env, f"/{APP_ROOT}", kept=_OURS, kept_labels=_OUR_LABELS)
    if len(evaluated.steps) > MAX_STEPS:
        raise evaluated.steps[MAX_STEPS].at.refuse(
            f"more than {MAX_STEPS} steps make layers; copy folders in place of files"
        )
    return evaluated


def no_engine(step: Run) -> DockerfileInvalid:
    """The refusal of RUN where nothing can run it."""
    return step.at.refuse(
        "RUN needs a container engine, and none is here; name packages in the environment file, build upon an image "
        "that has what it makes (base), or install Docker or Podman on the machine that builds"
    )
