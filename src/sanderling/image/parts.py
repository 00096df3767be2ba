"""The layers of an image, each from its own inputs: base, wheels, scoring server, models, application."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from pathlib import Path

from sanderling.errors import Invalid, NotFound
from sanderling.image.debian.archive import DebianArchive
from sanderling.image.debian.mirrors import SUITE
from sanderling.image.debian.rootfs import build_root
from sanderling.image.events import Log
from sanderling.image.figures import count_text
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.store import LayerStore, Made, Opened
from sanderling.image.layers.tree import Entry, file_entry
from sanderling.image.packages.resolve import Wheel
from sanderling.image.packages.wheels import SamePath, open_wheel
from sanderling.image.recipe import APP_ROOT, ModelFiles, Recipe
from sanderling.image.supply_chain.used import Used
from sanderling.image.version import product_version
from sanderling.oci import Platform

DEBIAN_ARCHITECTURES = {"amd64": "amd64", "arm64": "arm64"}
SCORING = "sanderling_scoring"


class Parts:
    """Makes the layers for images with *python* into *layers*; used by several threads."""

    def __init__(self, layers: LayerStore, archive: DebianArchive, python: Interpreter, used: Used, log: Log) -> None:
        self.layers, self.archive, self.python, self.used, self.log = layers, archive, python, used, log

    def base(self, platform: Platform) -> Made:
        """Debian and Python for *platform*."""
        lock = self.archive.lock(DEBIAN_ARCHITECTURES[platform.architecture])
        self.used.debian(platform, lock, SUITE)
        title = f"Debian 12 and Python {self.python.version} for {platform.architecture}"
        made_at = f"{lock.made_at:%Y-%m-%d %H:%M} UTC"
        self.log.say("base", f"{title}: {len(lock.packages)} packages, as chosen at {made_at}")

        @contextmanager
        def opened() -> Iterator[list[Entry]]:
            yield build_root(lock.packages, self.archive.fetch(lock))

        return self.layers.ensure("base", lock.identity(), title, opened, compiled=True)

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
        inputs = [astuple(self.python), [[name, files[name].name] for name in names]]
        return self.layers.ensure("wheels", inputs, title, opened, compiled=True)

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

    def model(self, model: ModelFiles) -> Made:
        """One model's files."""
        files = {f"{APP_ROOT}/{model.folder}/{path}": source for path, source in sorted(model.files.items())}
        entries = [file_entry(path, source) for path, source in files.items()]
        inputs = [[path, hash_file(source)] for path, source in files.items()]
        self.used.files("model", model.name, str(model.version), dict(inputs))
        return self.layers.ensure("model", inputs, f"model {model.name}:{model.version}", _given(entries))

    def application(self, recipe: Recipe) -> Made:
        """The scoring script and the files beside it."""
        files = sorted((recipe.script, *recipe.files), key=lambda file: file.path)
        entries = [file_entry(f"{APP_ROOT}/{f.path}", f.source, executable=f.executable) for f in files]
        digests = {f.path: hash_file(f.source) for f in files}
        inputs = [[f.path, f.executable, digests[f.path]] for f in files]
        self.used.files("application", recipe.script.path, "", {f"{APP_ROOT}/{f.path}": digests[f.path] for f in files})
        beside = f" and {count_text(len(recipe.files), 'file')}" if recipe.files else ""
        title = f"{recipe.script.path}{beside}"
        return self.layers.ensure("application", inputs, title, _given(entries))


def merge(wheels: Mapping[str, Sequence[Entry]]) -> list[Entry]:
    """The entries of several wheels as one list. Raises SamePath when two differ about one path."""
    merged: dict[str, tuple[str, Entry]] = {}
    for wheel, entries in wheels.items():
        for entry in entries:
            first, present = merged.setdefault(entry.path, (wheel, entry))
            if present.fingerprint() != entry.fingerprint():
                raise SamePath(entry.path, first, wheel)
    return [entry for _, entry in merged.values()]


def hash_file(path: Path) -> str:
    """The sha256 of the file *path*, in hex. Raises Invalid when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise Invalid(f"{path.name} cannot be read: {e.strerror}") from e


def _given(entries: list[Entry]) -> Callable[[], Opened]:
    @contextmanager
    def opened() -> Iterator[list[Entry]]:
        yield entries

    return opened
