"""Find the files that the steps of a Dockerfile copy, so that they are sent with it, and no other of its folder."""

import os
from collections.abc import Iterable
from pathlib import Path

from sanderling.dockerfile import Copy, Ignored, evaluate, matches, parse_dockerfile
from sanderling.errors import Invalid, NotFound
from sanderling.sdk.model import LocalFile, local_file
from sanderling.sdk.walk import files_within

APP_ROOT = "/var/azureml-app"
MAX_FILES = 20_000
MAX_IGNORE_BYTES = 1 << 20


def files_copied_by(dockerfile: Path) -> list[LocalFile]:
    """The files that COPY and ADD of *dockerfile* name, with paths relative to its folder; .dockerignore is heeded.

    What is named and not there is left out: the build's answer names the line.

    Raises:
        NotFound: The Dockerfile is not there.
        Invalid: The Dockerfile or its .dockerignore is none, a file cannot be read, or they are too many.
    """
    sources = _sources(dockerfile)
    folder = Path(os.path.normpath(dockerfile.absolute())).parent
    ignored = _ignored(dockerfile)
    found: dict[str, Path] = {}
    for top in _tops(folder, sources):
        entry = folder / top
        root = Path(os.path.realpath(folder))
        if entry.is_dir():
            walked: Iterable[tuple[Path, str]] = files_within(
                entry, top, root, lambda path: not _is_wanted(path, sources, ignored)
            )
        elif entry.is_file() and Path(os.path.realpath(entry)).is_relative_to(root):
            walked = [(entry, top)] if _is_wanted(top, sources, ignored) else []
        else:
            raise Invalid(f"{entry} is no file in the Dockerfile's folder that can be copied")
        for source, place in walked:
            found[place] = source
            if len(found) > MAX_FILES:
                raise Invalid(f"{dockerfile} copies more than {MAX_FILES} files; name fewer in .dockerignore")
    return [local_file(found[place].absolute(), place) for place in sorted(found)]


def _sources(dockerfile: Path) -> set[str]:
    """The sources of COPY and ADD, as paths and patterns. Raises Invalid for a Dockerfile that is none."""
    try:
        content = dockerfile.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{dockerfile} is not there") from error
    except OSError as error:
        raise Invalid(f"{dockerfile} cannot be read: {error.strerror}") from error
    steps = evaluate(parse_dockerfile(content, str(dockerfile)), {}, APP_ROOT).steps
    return {source for step in steps if isinstance(step, Copy) for source in step.sources}


def _ignored(dockerfile: Path) -> Ignored:
    """What is left out: NAME.dockerignore goes before .dockerignore."""
    for path in (dockerfile.with_name(f"{dockerfile.name}.dockerignore"), dockerfile.with_name(".dockerignore")):
        if path.is_file():
            try:
                return Ignored.parse(path.read_bytes()[:MAX_IGNORE_BYTES].decode("utf-8", "replace"))
            except ValueError as error:
                raise Invalid(f"{path}: {error}") from error
    return Ignored()


def _tops(folder: Path, sources: set[str]) -> list[str]:
    """The names in *folder* that sources begin with; other folders are not looked into."""
    firsts = {source.split("/")[0] for source in sources}
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if firsts and ("." in firsts or any(entry.name == first or matches(first, entry.name) for first in firsts))
    )


def _is_wanted(path: str, sources: set[str], ignored: Ignored) -> bool:
    """Whether the file at *path*, or a folder that it is in, is a source."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    named = "." in sources or any(one == source or matches(source, one) for source in sources for one in above)
    return named and not ignored.leaves_out(path)
