"""Refuse what only conda can install, as long as nothing here installs it."""

from sanderling.image.environment.environment import Environment, Place


def refuse_conda(environment: Environment) -> None:
    """Raise EnvironmentInvalid when *environment* wants packages that only conda has."""
    if environment.conda is None:
        return
    name, place = environment.conda_culprit or (environment.conda.specs[0], Place("the environment file"))
    raise place.refuse(
        f"the conda package '{name}' is not supported: conda packages other than python and pip are not installed. "
        "If PyPI has it with wheels, move it to the 'pip:' section",
        name,
    )
