"""Build one image: check, choose, fetch, make layers, assemble. No program of the user runs.

What is slow and independent goes side by side: the base is unpacked while wheels
are chosen and fetched; two layers are made at once.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, NotFound
from sanderling.image.assembly import Assembled, assemble
from sanderling.image.debian.archive import DebianArchive
from sanderling.image.debian.mirrors import choose_mirrors
from sanderling.image.downloads import Downloads, Source
from sanderling.image.environment.conda_file import Environment, parse_environment
from sanderling.image.events import Log
from sanderling.image.figures import count_text, size_text
from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.layers.bytecode import find_compiler
from sanderling.image.layers.layer_file import Layer
from sanderling.image.layers.store import LayerStore, Made, check_paths
from sanderling.image.packages.resolve import Resolver, Wheel, logins
from sanderling.image.parts import Parts
from sanderling.image.recipe import Recipe
from sanderling.image.script import check_script
from sanderling.image.supply_chain.used import Used
from sanderling.oci import Platform

WORKERS = 2
OWN_LAYER_BYTES = 1_000_000
MAX_WHEEL_LAYERS = 40


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What is the machine's and not the image's: the cache folder and Debian mirrors (None: the host's)."""

    cache: Path
    debian_mirror: str | None = None
    debian_security_mirror: str | None = None


def check(recipe: Recipe) -> Environment:
    """Refuse a recipe that cannot become an image, before anything is fetched; return its environment.

    Raises ScriptInvalid, EnvironmentInvalid, NotFound for a missing file, Invalid for an unreadable one.
    """
    check_script(_read(recipe.script.source, "the scoring script"), recipe.script.path)
    for file in recipe.files:
        _require(file.source, f"the file '{file.path}'")
    for model in recipe.models:
        for path, source in model.files.items():
            _require(source, f"the file '{path}' of model '{model.name}' version {model.version}")
    if recipe.environment is None:
        return Environment()
    return parse_environment(_read(recipe.environment.source, "the environment file"), recipe.environment.path)


def build(recipe: Recipe, settings: BuildSettings, log: Log) -> tuple[Assembled, FileBlobs]:
    """Make the image of *recipe*; return it and the store that has its blobs.

    The same recipe and the same choice of packages give the same digest. Raises
    the errors of `check`, ResolutionFailed, SamePath, DownloadFailed and those of
    a base that cannot be trusted; then no image is left, and the cache is sound.
    """
    environment = check(recipe)
    for note in environment.notes:
        log.say("environment", note)
    return _Build(recipe, environment, settings, log).run()


class _Build:
    def __init__(self, recipe: Recipe, environment: Environment, settings: BuildSettings, log: Log) -> None:
        self.recipe, self.environment, self.log = recipe, environment, log
        self.python = DEBIAN_12
        compiler = find_compiler(self.python.version)
        if compiler is None:
            log.warn(
                "layers", f"no Python {self.python.version} here to make bytecode with: the image will start slowly"
            )
        self.layers = LayerStore(settings.cache, log, compiler)
        self.downloads = Downloads(FileBlobs(settings.cache / "downloads"), log, logins(environment))
        mirrors = choose_mirrors(settings.debian_mirror, settings.debian_security_mirror)
        archive = DebianArchive(settings.cache, self.downloads, mirrors, log)
        self.used = Used(settings.cache, self.downloads.blobs)
        self.parts = Parts(self.layers, archive, self.python, self.used, log)
        self.resolver = Resolver(settings.cache, log)

    def run(self) -> tuple[Assembled, FileBlobs]:
        """The steps in order; the first error stops those that have not begun."""
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                made = self._make_all(pool)
            except BaseException:
                self.layers.stop()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self.downloads.close()
        for layers in made.values():
            check_paths(layers)
        plain: dict[Platform, list[Layer]] = {platform: [m.layer for m in layers] for platform, layers in made.items()}
        image = assemble(self.recipe, self.python, plain, self.layers.blobs)
        cached = sum(m.was_cached for layers in made.values() for m in layers)
        total = sum(len(layers) for layers in made.values())
        self.log.say(
            "assemble", f"{image.descriptor.digest}: {size_text(image.size_bytes)}, {total} layers, {cached} known"
        )
        return replace(image, contents=self.used.contents(self.recipe.platforms, self.python)), self.layers.blobs

    def _make_all(self, pool: ThreadPoolExecutor) -> dict[Platform, list[Made]]:
        platforms, parts = self.recipe.platforms, self.parts
        bases = {platform: pool.submit(parts.base, platform) for platform in platforms}
        chosen = {platform: self.resolver.resolve(self.environment, platform, self.python) for platform in platforms}
        files = self._fetch([wheel for wheels in chosen.values() for wheel in wheels])
        grouped = {platform: group_wheels(wheels, files) for platform, wheels in chosen.items()}
        for platform, every in chosen.items():
            self.used.wheels(platform, every, files)
        # Largest first, so that two threads end at about the same time; what platforms share is made once.
        groups = {
            tuple(wheel.file_name for wheel in group): group for groups_of in grouped.values() for group in groups_of
        }
        started = {
            names: pool.submit(parts.wheels, groups[names], files)
            for names in sorted(groups, key=lambda names: -sum(files[name].stat().st_size for name in names))
        }
        tail = [pool.submit(parts.scoring)]
        tail += [pool.submit(parts.model, model) for model in self.recipe.models]
        tail.append(pool.submit(parts.application, self.recipe))
        made: dict[Platform, list[Made]] = {}
        for platform in platforms:
            wheels = [started[tuple(wheel.file_name for wheel in group)] for group in grouped[platform]]
            made[platform] = [future.result() for future in (bases[platform], *wheels, *tail)]
        return made

    def _fetch(self, wheels: list[Wheel]) -> dict[str, Path]:
        sources = {w.file_name: Source(w.file_name, w.url, w.digest, w.size_bytes) for w in wheels}
        digests = self.downloads.ensure_all(sources.values(), "wheels", count_text(len(sources), "wheel"))
        return {name: self.downloads.blobs.path(digest) for name, digest in digests.items()}


def group_wheels(wheels: Sequence[Wheel], files: Mapping[str, Path]) -> list[list[Wheel]]:
    """Which wheels share a layer: a large one has its own (at most 39 of them), the others are the last group."""
    sizes = {wheel.file_name: files[wheel.file_name].stat().st_size for wheel in wheels}
    large = [wheel for wheel in wheels if sizes[wheel.file_name] >= OWN_LAYER_BYTES]
    large = sorted(large, key=lambda wheel: (-sizes[wheel.file_name], wheel.name))[: MAX_WHEEL_LAYERS - 1]
    rest = [wheel for wheel in wheels if wheel not in large]
    alone = [[wheel] for wheel in sorted(large, key=lambda wheel: wheel.name)]
    return [*alone, rest] if rest else alone


def _read(path: Path, what: str) -> bytes:
    _require(path, what)
    try:
        return path.read_bytes()
    except OSError as e:
        raise Invalid(f"{what} cannot be read: {e.strerror}") from e


def _require(path: Path, what: str) -> None:
    if not path.exists():
        raise NotFound(f"{what} is not there: {path.name}")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise Invalid(f"{what} is no file that can be read: {path.name}")
