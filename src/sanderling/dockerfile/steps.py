"""What a Dockerfile does to the files of an image, in order."""

from collections.abc import Mapping
from dataclasses import dataclass

from sanderling.dockerfile.syntax import Instruction


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY and ADD: *sources* in the context (paths or patterns, "." is all of it) go to *target*.

    target: from the image's root, without a slash at its ends; "" is the root.
    is_folder: *target* was written as a folder, with a slash at its end.
    unpacks: ADD, which unpacks archives.
    chown: as it was written, "1000:1000" or names; empty: root.
    """

    at: Instruction
    sources: tuple[str, ...]
    target: str
    is_folder: bool
    unpacks: bool = False
    chown: str = ""
    chmod: int | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """WORKDIR: *path* is there after it."""

    at: Instruction
    path: str


@dataclass(frozen=True, slots=True)
class Run:
    """RUN: *command* as a program and its arguments, as *user* (empty: root) in the folder *workdir*."""

    at: Instruction
    command: tuple[str, ...]
    variables: Mapping[str, str]
    user: str
    workdir: str


Step = Copy | Folder | Run
