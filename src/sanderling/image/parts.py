"""The layers of an image, each from its own inputs: base, wheels, scoring server, models, application."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from pathlib import Path

from sanderling.errors import NotFound
from sanderling.image.bases import Base
from sanderling.image.bases.installed import replaced, whiteouts
from sanderling.image.events import Log
from sanderling.image.figures import count_text
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.sizes import packages_text
from sanderling.image.layers.store import LayerStore, Made, Opened
from sanderling.image.layers.tree import Entry, file_entry
from sanderling.image.packages.resolve import Wheel
from sanderling.image.packages.trimming import TESTS_APART, project_of
from sanderling.image.packages.wheels import SamePath, open_wheel
from sanderling.image.recipe import APP_ROOT, ModelFiles, Recipe, SourceFile
from sanderling.image.supply_chain.used import Used
from sanderling.image.user_files import UserFiles
from sanderling.image.version import product_version

SCORING = "sanderling_scoring"


class Parts:
    """Makes the layers above a base, for images with *python*, into *layers*; used by several threads.

    *used* is told of the files that go in.
    """

    def __init__(self, layers: LayerStore, python: Interpreter, used: Used, log: Log) -> None:
        self.layers, self.python, self.used, self.log = layers, python, used, log

    def replaced(self, base: Base, wheels: Sequence[Wheel]) -> list[Made]:
        """A layer that takes those packages of *base* away that *wheels* bring anew; none when there are none."""
        found, unknown = replaced(base.installed, [wheel.name for wheel in wheels])
        for name in unknown:
            self.log.warn("base", f"{name} is in the base already, and what belongs to it is not known: both are there")
        if not found:
            return []
        self.log.say("base", f"{', '.join(found)}: the base's own is replaced")
        paths = [path for paths in found.values() for path in paths]
        return [
            self.layers.ensure("replaced", sorted(paths), "packages of the base, removed", _given(whiteouts(paths)))
        ]

    def wheels(self, wheels: Sequence[Wheel], files: Mapping[str, Path]) -> Made:
        """One layer for *wheels*; *files* is where each is, by file name."""
        names = sorted(wheel.file_name for wheel in wheels)
        title = f"{wheels[0].name} {wheels[0].version}" if len(wheels) == 1 else f"{len(wheels)} small packages"

        @contextmanager
        def opened() -> Iterator[list[Entry]]:
            with ExitStack() as stack:
                every = [stack.enter_context(open_wheel(files[name], name, self.python)) for name in names]
                yield merge(dict(zip(names, every, strict=True)))

        # The cache calls a wheel by its sha256.
        trimmed = [name for name in names if project_of(name) in TESTS_APART]
        inputs = [astuple(self.python), [[name, files[name].name] for name in names], trimmed]
        packages = packages_text((w.name, w.version, files[w.file_name].stat().st_size) for w in wheels)
        return self.layers.ensure("wheels", inputs, title, opened, compiled=True, packages=packages)

    def scoring(self) -> Made:
        """The scoring server, from the package that is installed beside this one."""
        spec = importlib.util.find_spec(SCORING)
        if spec is None or not spec.submodule_search_locations:
            raise NotFound(f"the package {SCORING} is not installed beside sanderling; install sanderling anew")
        folder = Path(spec.submodule_search_locations[0])
        contents = {
            f"{self.python.site}/{SCORING}/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
        }
        entries = [file_entry(path, content) for path, content in contents.items()]
        inputs = [[path, hashlib.sha256(content).hexdigest()] for path, content in contents.items()]
        self.used.files("scoring", SCORING, product_version(), dict(inputs))
        return self.layers.ensure("scoring", inputs, SCORING, _given(entries), compiled=True)

    def models(self, models: Sequence[ModelFiles]) -> Made:
        """One layer for the files of *models*."""
        files = [
            SourceFile(f"{APP_ROOT}/{model.folder}/{path}", source)
            for model in models
            for path, source in sorted(model.files.items())
        ]
        found = UserFiles(files, self.layers.check)
        inputs = [[path, sha256] for path, sha256, _ in found.inputs]
        digests = {path: sha256 for path, sha256, _ in found.inputs}
        for model in models:
            within = {f"{APP_ROOT}/{model.folder}/{path}" for path in model.files}
            self.used.files("model", model.name, str(model.version), {p: digests[p] for p in sorted(within)})
        one = models[0]
        title = f"model {one.name}:{one.version}" if len(models) == 1 else f"{len(models)} models"
        return self.layers.ensure("model", inputs, title, found.opened)

    def application(self, recipe: Recipe) -> Made:
        """The scoring script and the files beside it."""
        files = sorted(recipe.application_files(), key=lambda file: file.path)
        found = UserFiles(
            [SourceFile(f"{APP_ROOT}/{f.path}", f.source, f.executable) for f in files], self.layers.check
        )
        inputs = [[f.path, f.executable, sha256] for f, (_, sha256, _) in zip(files, found.inputs, strict=True)]
        self.used.files("application", recipe.script.path, "", {path: sha256 for path, sha256, _ in found.inputs})
        beside = f" and {count_text(len(files) - 1, 'file')}" if len(files) > 1 else ""
        return self.layers.ensure("application", inputs, f"{recipe.script.path}{beside}", found.opened)


def merge(wheels: Mapping[str, Sequence[Entry]]) -> list[Entry]:
    """The entries of several wheels as one list. Raises SamePath when two differ about one path."""
    merged: dict[str, tuple[str, Entry]] = {}
    for wheel, entries in wheels.items():
        for entry in entries:
            first, present = merged.setdefault(entry.path, (wheel, entry))
            if present.fingerprint() != entry.fingerprint():
                raise SamePath(entry.path, first, wheel)
    return [entry for _, entry in merged.values()]


def _given(entries: list[Entry]) -> Callable[[], Opened]:
    @contextmanager
    def opened() -> Iterator[list[Entry]]:
        yield entries

    return opened
