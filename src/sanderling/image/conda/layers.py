"""Layers of conda packages, grouped as wheels are.

conda lets two packages bring one file; here the layer that comes later wins, as
layers do, and the log says so. Which comes later depends on names only.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from sanderling.image.conda.bytecode import source_of
from sanderling.image.conda.lock import PREFIX, CondaPackage
from sanderling.image.conda.package_files import open_package
from sanderling.image.events import Log
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.bytecode import is_worth_compiling
from sanderling.image.layers.grouping import group_by_size
from sanderling.image.layers.sizes import packages_text
from sanderling.image.layers.store import LayerStore, Made
from sanderling.image.layers.tree import Entry
from sanderling.image.packages.wheels import SamePath

FORMAT = 1  # raise it when the same packages would give other bytes
_LINK_SCRIPTS = ("-post-link.sh", "-pre-link.sh")
_ACTIVATE = f"{PREFIX}/etc/conda/activate.d/"


def group_packages(
    packages: Sequence[CondaPackage], files: Mapping[str, Path], at_most: int
) -> list[list[CondaPackage]]:
    """The packages of each layer, at most *at_most* layers; *files* is where each is, by sha256."""
    sizes = {package.name: files[package.sha256].stat().st_size for package in packages}
    named = {package.name: package for package in packages}
    return [[named[name] for name in group] for group in group_by_size(sizes, at_most)]


class CondaLayers:
    """Makes layers into *layers* for images with *python*; used by several threads."""

    def __init__(self, layers: LayerStore, python: Interpreter, log: Log) -> None:
        self._layers, self._python, self._log = layers, python, log

    def make(self, group: Sequence[CondaPackage], files: Mapping[str, Path]) -> Made:
        """One layer for the packages of *group*; *files* is where each is, by sha256."""
        compiler = self._layers.compiler if any(package.needs_python for package in group) else None
        python = [self._python.version, self._python.site] if any(package.needs_python for package in group) else None
        names = [[package.file_name, package.sha256, package.subdir, package.shown_channel] for package in group]
        inputs = [FORMAT, names, python, compiler.version if compiler else None]
        first = group[0]
        title = f"conda {first.name} {first.version}" if len(group) == 1 else f"{len(group)} small conda packages"

        @contextmanager
        def opened() -> Iterator[list[Entry]]:
            with ExitStack() as stack:
                every = {
                    package.name: stack.enter_context(open_package(files[package.sha256], package, self._python))
                    for package in group
                }
                entries = self._merge(every)
                if compiler is not None:
                    sources = [
                        entry
                        for entry in entries.values()
                        if entry.kind == "file"
                        and is_worth_compiling(entry.path)
                        and compiler.place(entry.path) not in entries
                    ]
                    entries |= {entry.path: entry for entry in compiler.compile(sources)}
                yield list(entries.values())

        packages = packages_text((p.name, p.version, files[p.sha256].stat().st_size) for p in group)
        return self._layers.ensure("conda", inputs, title, opened, packages=packages)

    def _merge(self, packages: Mapping[str, Sequence[Entry]]) -> dict[str, Entry]:
        merged: dict[str, Entry] = {}
        owners: dict[str, str] = {}
        for name, entries in packages.items():
            for entry in entries:
                before = merged.get(entry.path)
                if before is not None and before.fingerprint() != entry.fingerprint():
                    _tell_same(self._log, entry.path, owners[entry.path], name)
                merged[entry.path], owners[entry.path] = entry, name
        # Bytecode is used without a check: it must be of the source that won.
        return {path: entry for path, entry in merged.items() if owners.get(source_of(path) or path) == owners[path]}


def settle(layers: Sequence[Made], log: Log) -> list[Made]:
    """*layers* with each path in one of them only; tell of files that two bring and of scripts that did not run.

    Raises SamePath when a module would be used with the bytecode of another.
    """
    owners: dict[str, int] = {}
    for place, made in enumerate(layers):
        for path, fingerprint in made.files.items():
            first = owners.get(path)
            if first is not None and layers[first].files[path] != fingerprint:
                _tell_same(log, path, layers[first].layer.title, made.layer.title)
            owners[path] = place
    for path, place in owners.items():
        source = owners.get(source_of(path) or path, place)
        if source != place:
            raise SamePath(source_of(path) or path, layers[place].layer.title, layers[source].layer.title)
    settled = []
    for place, made in enumerate(layers):
        settled.append(replace(made, files={path: f for path, f in made.files.items() if owners[path] == place}))
        _tell_scripts(log, made)
    return settled


def _tell_same(log: Log, path: str, first: str, second: str) -> None:
    log.warn("conda", f"{first} and {second} both bring /{path}; that of {second} is used")


def _tell_scripts(log: Log, made: Made) -> None:
    for path in sorted(made.files):
        name = path.rsplit("/", 1)[-1]
        if path == f"{PREFIX}/bin/{name}" and name.startswith(".") and name.endswith(_LINK_SCRIPTS):
            package = name.removeprefix(".").removesuffix("-post-link.sh").removesuffix("-pre-link.sh")
            log.warn(
                "conda",
                f"{package} has a link script (/{path}), which was not run: nothing of a package runs when an image "
                "is built. Look whether the image needs what it does",
            )
        elif path.startswith(_ACTIVATE) and name.endswith(".sh"):
            log.warn("conda", f"/{path} is not run in an image; set what it sets yourself if it is needed")
