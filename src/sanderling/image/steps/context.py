"""The files that steps may copy, and which of them a source means.

Only files are known, with their paths: folders are there as far as files are in them.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from sanderling.dockerfile import Copy, matches
from sanderling.image.recipe import SourceFile


@dataclass(frozen=True, slots=True)
class Picked:
    """One thing that a source means: a file, or a folder with all files in it, by their paths in that folder."""

    path: str
    files: tuple[tuple[str, SourceFile], ...]
    is_folder: bool

    @property
    def name(self) -> str:
        """What it is called."""
        return posixpath.basename(self.path)


def pick(step: Copy, context: Sequence[SourceFile]) -> list[Picked]:
    """What the sources of *step* mean, in order. Raises DockerfileInvalid for one that means nothing."""
    found: list[Picked] = []
    for source in step.sources:
        picked = _pick(source, context)
        if not picked:
            raise step.at.refuse(
                f"{step.at.name} {source}: no such file is beside the Dockerfile (or it is empty, or .dockerignore "
                "leaves it out)"
            )
        found += picked
    if len(found) > 1 and not step.is_folder:
        raise step.at.refuse(
            f"{step.at.name}: {len(found)} things are copied, so that they go to a folder: end the target with /"
        )
    return found


def _pick(source: str, context: Sequence[SourceFile]) -> list[Picked]:
    if source == ".":
        return [Picked(".", tuple((file.path, file) for file in context), True)] if context else []
    depth = source.count("/") + 1
    folders: dict[str, list[tuple[str, SourceFile]]] = {}
    found = []
    for file in context:
        parts = file.path.split("/")
        if len(parts) < depth:
            continue
        head = "/".join(parts[:depth])
        if head != source and not matches(source, head):
            continue
        if len(parts) == depth:
            found.append(Picked(head, ((head, file),), False))
        else:
            folders.setdefault(head, []).append(("/".join(parts[depth:]), file))
    found += [Picked(head, tuple(files), True) for head, files in folders.items()]
    return sorted(found, key=lambda picked: picked.path)
