"""Read a pip requirements file into what the image needs."""

from collections.abc import Mapping
from pathlib import Path

from sanderling.image.environment.environment import Environment, Place
from sanderling.image.environment.given_files import GivenFiles
from sanderling.image.environment.pip_lines import PipLines, decode


def parse_requirements(
    content: bytes,
    file: str = "the requirements file",
    given: Mapping[str, Path] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Environment:
    """Return the environment that *content* (at most 1 MiB) describes.

    *given* are the files that it may name by path, *variables* those for the
    URLs of indexes. Raises EnvironmentInvalid with the line.
    """
    lines = PipLines(GivenFiles(given), variables or {})
    lines.read_text(decode(content, Place(file)), file)
    return environment_of(lines)


def environment_of(lines: PipLines) -> Environment:
    """What *lines* have collected."""
    return Environment(
        requirements=tuple(lines.requirements),
        options=tuple(lines.options),
        notes=tuple(lines.notes),
        constraints=tuple(lines.constraints),
        hashes=tuple((name, tuple(values)) for name, values in sorted(lines.hashes.items())),
        needs_hashes=lines.needs_hashes,
        wheels=tuple(lines.wheels[name] for name in sorted(lines.wheels)),
        origins=tuple(sorted(lines.origins.items())),
    )
