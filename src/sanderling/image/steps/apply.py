"""Do the steps of a Dockerfile upon the layers of an image for one platform.

Each COPY, ADD and RUN is a layer, and so is a WORKDIR whose folder is new. A layer is
found again when nothing that it depends on has changed: its step, its files, what is below.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sanderling.dockerfile import Copy, Folder, Run, Settings, Step
from sanderling.errors import Invalid
from sanderling.image.bases import Base
from sanderling.image.events import Log
from sanderling.image.layers.store import LayerStore, Made
from sanderling.image.layers.tree import Entry
from sanderling.image.recipe import Recipe
from sanderling.image.steps.check_steps import engine_for, evaluate_steps, read_dockerfile
from sanderling.image.steps.context import pick
from sanderling.image.steps.copied import copied
from sanderling.image.steps.image_tree import ImageTree
from sanderling.image.steps.ran import ran
from sanderling.image.user_files import UserFiles
from sanderling.oci import Platform

STEPS_VERSION = 1  # raise it when the same step would give other bytes
MAX_TITLE = 100


@dataclass(frozen=True, slots=True)
class Applied:
    """What the steps gave: *layers*, lowest first, and *settings* of the config; *user* is in numbers."""

    layers: tuple[Made, ...]
    settings: Settings
    user: str

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """*config*, the part of an image's config that says how its process starts, after the steps."""
        settings = self.settings
        changed = dict(config)
        changed["Env"] = [f"{name}={value}" for name, value in sorted(settings.env.items())]
        changed["ExposedPorts"] = {**config["ExposedPorts"], **{port: {} for port in settings.ports}}
        changed["Labels"] = {**config["Labels"], **settings.labels}
        given = {
            "User": self.user,
            "WorkingDir": settings.workdir,
            "StopSignal": settings.stop_signal,
            "Volumes": {path: {} for path in settings.volumes},
            "Healthcheck": settings.health,
            "Shell": list(settings.shell),
        }
        return changed | {name: value for name, value in given.items() if value}


def apply_steps(
    recipe: Recipe,
    platform: Platform,
    below: Sequence[Made],
    base: Base,
    env: Mapping[str, str],
    layers: LayerStore,
    log: Log,
) -> Applied:
    """Do the steps of *recipe*'s Dockerfile upon the layers *below*, whose lowest are those of *base*.

    *env* are the variables so far. Raises DockerfileInvalid with the line, and what RUN needs and has not.
    """
    evaluated = evaluate_steps(*read_dockerfile(recipe), env)
    doing = _Doing(recipe, platform, below, base, layers, log)
    for step in evaluated.steps:
        doing.do(step)
    return Applied(tuple(doing.made), evaluated.settings, doing.final_user(evaluated.settings))


class _Doing:
    def __init__(
        self, recipe: Recipe, platform: Platform, below: Sequence[Made], base: Base, layers: LayerStore, log: Log
    ) -> None:
        self.recipe, self.platform, self.layers, self.log = recipe, platform, layers, log
        self.tree = ImageTree(below, [made.layer for made in base.layers], layers.blobs)
        self.below, self.made = list(below), list[Made]()
        self.has_run = False
        # What the tree of the layers below depends on, and no more: a changed model changes no folder.
        names = sorted((path, print_) for made in below for path, print_ in made.files.items() if "link:" in print_)
        paths = sorted(path for made in below for path in made.files)
        self.known = {"", *(path[:end] for path in paths for end, c in enumerate(path) if c == "/")}
        text = json.dumps([[str(made.layer.diff_id) for made in base.layers], names, paths])
        self.state = hashlib.sha256(text.encode()).hexdigest()

    def do(self, step: Step) -> None:
        """Do one step."""
        match step:
            case Copy():
                self._copy(step)
            case Folder():
                self._folder(step)
            case Run():
                self._run(step)

    def final_user(self, settings: Settings) -> str:
        """The user that USER sets, in numbers; nothing when there is none. Raises DockerfileInvalid."""
        if not settings.user or settings.user_at is None:
            return ""
        numbers = self.tree.user(settings.user) if not _is_number(settings.user) else None
        if numbers is None and not _is_number(settings.user):
            raise settings.user_at.refuse(
                f"USER {settings.user}: the image has no such user; write its number, as USER 1000:1000"
            )
        text = settings.user if numbers is None else ":".join(str(n) for n in numbers if n is not None)
        if text.partition(":")[0].strip("0") == "":
            self.log.warn("steps", f"{settings.user_at.file}, line {settings.user_at.line}: the image runs as root")
        return text

    def _copy(self, step: Copy) -> None:
        picked = pick(step, self.recipe.context)
        files = {source.path: source for one in picked for _, source in one.files}
        found = UserFiles([files[path] for path in sorted(files)], self.layers.check)
        owner = self._owner(step) if step.chown else None
        inputs = [
            STEPS_VERSION, self.state, found.inputs, list(step.sources), step.target, step.is_folder,
            step.unpacks, owner, step.chmod,
        ]  # fmt: skip

        @contextmanager
        def opened() -> Iterator[list[Entry]]:
            with ExitStack() as held, found.opened() as entries:
                yield copied(step, picked, {entry.path: entry for entry in entries}, self.tree, owner, held)

        self._keep(self.layers.ensure("copy", inputs, _title(step), opened))

    def _owner(self, step: Copy) -> tuple[int, int]:
        numbers = self.tree.user(step.chown)
        if numbers is None:
            raise step.at.refuse(
                f"{step.at.name} --chown={step.chown}: the image has no such user or group; write numbers, as 1000:1000"
            )
        # Docker: a user without a group brings its own number as group.
        return numbers[0], numbers[0] if numbers[1] is None else numbers[1]

    def _folder(self, step: Folder) -> None:
        if step.path in self.known:
            return

        @contextmanager
        def opened() -> Iterator[list[Entry]]:
            yield self._new_folder(step)

        self._keep(self.layers.ensure("folder", [STEPS_VERSION, self.state, step.path], _title(step), opened))

    def _new_folder(self, step: Folder) -> list[Entry]:
        try:
            return self.tree.folders(f"{self.tree.place(step.path)}/x", 0, 0)
        except Invalid as e:
            raise step.at.refuse(f"WORKDIR: {e.message}") from e

    def _run(self, step: Run) -> None:
        numbers = self.tree.user(step.user or "root")
        if numbers is None:
            raise step.at.refuse(f"RUN as {step.user}: the image has no such user; write its number, as USER 1000:1000")
        user = ":".join(str(number) for number in numbers if number is not None)
        layers = [made.layer for made in (*self.below, *self.made)]
        inputs = [
            STEPS_VERSION, [str(layer.diff_id) for layer in layers], str(self.platform), list(step.command),
            sorted(step.variables.items()), user, step.workdir,
        ]  # fmt: skip

        @contextmanager
        def opened() -> Iterator[list[Entry]]:
            self._check_program(step)
            engine = engine_for(step, [self.platform])
            with ExitStack() as held:
                blobs = self.layers.blobs
                yield ran(step, self.platform, user, layers, blobs, self.tree, engine, self.log, held)

        self._keep(self.layers.ensure("run", inputs, _title(step), opened))
        if not self.has_run:
            self.log.warn(
                "steps", f"{step.at.file}, line {step.at.line}: from this RUN on the image is not the same on another "
                "day or machine, for what the command does may differ"
            )  # fmt: skip
        self.has_run = True

    def _check_program(self, step: Run) -> None:
        """Refuse what the image has no program for, a shell above all. Raises DockerfileInvalid."""
        program = step.command[0]
        if program.startswith("/") and self.tree.kind(program.strip("/")) == "":
            raise step.at.refuse(
                f"RUN: the image has no {program}: our Debian has no shell and no apt; build upon an image that has "
                'them, as --base python:3.11-slim, or run a program as a list: RUN ["python3", "-c", "..."]'
            )

    def _keep(self, made: Made) -> None:
        # As with a base, its files may take the place of others: so it has no list of them.
        self.made.append(replace(made, files={}))
        self.tree.add(made.layer)
        self.state = hashlib.sha256(f"{self.state} {made.layer.diff_id}".encode()).hexdigest()


def _is_number(user: str) -> bool:
    return user.replace(":", "", 1).isdecimal()


def _title(step: Step) -> str:
    text = step.at.text
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 1]}…"
