"""Build one image: check, choose, fetch, make layers, assemble, try. No program of the user runs before the last.

What is slow and independent goes side by side: the base is unpacked while wheels
are chosen and fetched; two layers are made at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid
from sanderling.image.assembly import Assembled, assemble, variables
from sanderling.image.bases import Base, BaseMaker, BaseSources, choose_base
from sanderling.image.check import check
from sanderling.image.conda.lock import PREFIX
from sanderling.image.conda.wish import channel_logins
from sanderling.image.downloads import Downloads, Source
from sanderling.image.environment.choose_python import choose_python
from sanderling.image.environment.environment import Environment
from sanderling.image.events import Log
from sanderling.image.figures import count_text, size_text
from sanderling.image.gate.gate import GateSettings, pass_gate
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.bytecode import find_compiler
from sanderling.image.layers.grouping import LEAST_PACKAGE_LAYERS, group_models, group_wheels, room_for_packages
from sanderling.image.layers.layer_file import Layer
from sanderling.image.layers.store import LayerStore, Made, check_paths
from sanderling.image.packages.resolve import Resolver, Wheel, logins
from sanderling.image.packages.wheel_sources import ANY, WheelSources
from sanderling.image.parts import Parts
from sanderling.image.rebuild import Rebuild
from sanderling.image.recipe import Recipe
from sanderling.image.steps import Applied, apply_steps, count_steps
from sanderling.image.supply_chain.lock import Lock
from sanderling.image.supply_chain.used import Used
from sanderling.oci import Platform

if TYPE_CHECKING:
    from sanderling.image.conda.conda_prefix import CondaPrefix

WORKERS = 2
OWN_LAYERS = 2  # scoring server, application


@dataclass(frozen=True, slots=True)
class BuildSettings(BaseSources):
    """What is the machine's and not the image's: the cache folder, where bases come from, where wheels may, the gate.

    When nothing may be fetched, *wheels* says so too. *lock* is an image's, to build it again (see `rebuild`).
    """

    wheels: WheelSources = ANY
    gate: GateSettings = field(default_factory=GateSettings)
    lock: Lock | None = None


def build(recipe: Recipe, settings: BuildSettings, log: Log) -> tuple[Assembled, FileBlobs]:
    """Make the image of *recipe*; return it and the store that has its blobs.

    The same recipe and the same choice of packages give the same digest. Raises
    the errors of `check`, ResolutionFailed, LockDiffers, SamePath, DownloadFailed, GateFailed and those
    of a base that cannot be trusted; then no image is left, and the cache is sound.
    """
    environment = check(recipe)
    for note in environment.notes:
        log.say("environment", note)
    downloads = open_downloads(settings, environment, log)
    with closing(downloads):
        rebuild = None
        if settings.lock is not None:
            rebuild = Rebuild(settings.lock, recipe, environment, settings.wheels, downloads.blobs)
            settings = replace(settings, base_locks=rebuild.base_locks)
        # With conda any base will do, as it brings its own Python.
        choose = partial(choose_python, environment) if environment.conda is None else _first
        bases = choose_base(recipe.base, recipe.platforms, choose, settings, downloads, log)
        image, blobs = _Build(recipe, environment, settings, bases, downloads, rebuild, log).run()
    pass_gate(recipe, image, blobs, settings.cache, settings.gate, log)
    return image, blobs


def open_downloads(settings: BuildSettings, environment: Environment, log: Log) -> Downloads:
    """What fetches for a build, with the credentials of *environment*'s indexes; the caller closes it."""
    blobs = FileBlobs(settings.cache / "downloads")
    known = logins(environment) | (channel_logins(environment.conda) if environment.conda else {})
    return Downloads(blobs, log, known, is_offline=settings.is_offline)


class _Build:
    def __init__(
        self,
        recipe: Recipe,
        environment: Environment,
        settings: BuildSettings,
        bases: BaseMaker,
        downloads: Downloads,
        rebuild: Rebuild | None,
        log: Log,
    ) -> None:
        self.recipe, self.environment, self.downloads, self.log = recipe, environment, downloads, log
        self.rebuild = rebuild
        self.conda = _solve_conda(environment, recipe, bases.python, settings, log)
        self.python = self.conda.python if self.conda else bases.python
        compiler = find_compiler(self.python.version)
        if compiler is None:
            log.warn(
                "layers", f"no Python {self.python.version} here to make bytecode with: the image will start slowly"
            )
        self.layers = LayerStore(settings.cache, log, compiler, recipe.compression)
        # A base keeps its own Python and its bytecode: with conda it is the same layer that other images have.
        below = find_compiler(bases.python.version)
        self.below = LayerStore(settings.cache, log, below, recipe.compression) if self.conda else self.layers
        self.used = Used(settings.cache, downloads.blobs)
        self.bases, self.parts = bases, Parts(self.layers, self.python, self.used, log)
        self.resolver = Resolver(settings.cache, log, settings.wheels)

    def run(self) -> tuple[Assembled, FileBlobs]:
        """The steps in order; the first error stops those that have not begun."""
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                bases, made = self._make_all(pool)
                for layers in made.values():
                    check_paths(layers)
                steps = self._apply_steps(made, bases)
            except BaseException:
                self.layers.stop()
                self.below.stop()
                self.downloads.close()  # what is under way gives up
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self.layers.close()
                self.below.close()
        plain: dict[Platform, list[Layer]] = {platform: [m.layer for m in layers] for platform, layers in made.items()}
        image = assemble(self.recipe, self.python, plain, self.layers.blobs, bases, steps)
        cached = sum(m.was_cached for layers in made.values() for m in layers)
        total = sum(len(layers) for layers in made.values())
        self.log.say(
            "assemble", f"{image.descriptor.digest}: {size_text(image.size_bytes)}, {total} layers, {cached} known"
        )
        return replace(image, contents=self.used.contents(self.recipe.platforms, self.python)), self.layers.blobs

    def _make_all(self, pool: ThreadPoolExecutor) -> tuple[dict[Platform, Base], dict[Platform, list[Made]]]:
        platforms, parts = self.recipe.platforms, self.parts
        waiting = {platform: pool.submit(self.bases.make, platform, self.below) for platform in platforms}
        models = group_models(self.recipe.models)
        room = room_for_packages(self.bases.layer_count + OWN_LAYERS + len(models) + count_steps(self.recipe))
        conda = self._make_conda(pool, room)
        chosen = {platform: self._choose(platform, conda[platform]) for platform in platforms}
        files = fetch_wheels([wheel for wheels in chosen.values() for wheel in wheels], self.downloads)
        grouped = {p: group_wheels(wheels, files, room - len(conda[p])) for p, wheels in chosen.items()}
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
        tail += [pool.submit(parts.models, group) for group in models]
        tail.append(pool.submit(parts.application, self.recipe))
        bases = {platform: future.result() for platform, future in waiting.items()}
        made: dict[Platform, list[Made]] = {}
        for platform in platforms:
            wheels = [started[tuple(wheel.file_name for wheel in group)] for group in grouped[platform]]
            if self.rebuild is not None:
                self.rebuild.check_base(platform, bases[platform])
            self.used.base(platform, bases[platform])
            base, rest = bases[platform], [future.result() for future in (*wheels, *tail)]
            # The packages of another Python are not in the way.
            taken = parts.replaced(base, chosen[platform]) if self.conda is None else conda[platform]
            made[platform] = [*base.layers, *taken, *rest]
        return bases, made

    def _apply_steps(self, made: dict[Platform, list[Made]], bases: Mapping[Platform, Base]) -> dict[Platform, Applied]:
        """Put the layers of the Dockerfile's steps on top of those that are *made*."""
        applied = {}
        for platform, layers in made.items() if self.recipe.dockerfile else ():
            base, env = bases[platform], variables(self.recipe, self.python, bases[platform])
            applied[platform] = apply_steps(self.recipe, platform, layers, base, env, self.layers, self.log)
            layers += applied[platform].layers
        return applied

    def _make_conda(self, pool: ThreadPoolExecutor, room: int) -> dict[Platform, list[Made]]:
        """The layers of conda's packages: they must be there before wheels are chosen, which have to fit."""
        if self.conda is None:
            return {platform: [] for platform in self.recipe.platforms}
        for platform, lock in self.conda.locks.items():
            self.used.conda(platform, lock)
        wheels_follow = bool(self.environment.requirements)
        at_most = room - min(LEAST_PACKAGE_LAYERS, room // 2) if wheels_follow else room
        started = self.conda.start(self.downloads, self.layers, pool, at_most)
        return {
            platform: self.conda.settle([future.result() for future in futures])
            for platform, futures in started.items()
        }

    def _choose(self, platform: Platform, conda: Sequence[Made]) -> list[Wheel]:
        if self.rebuild is not None:
            return self.rebuild.wheels(platform, self.python)
        if self.conda is None:
            return self.resolver.resolve(self.environment, platform, self.python)
        return self.conda.wheels(self.resolver, self.environment, platform, conda)


def fetch_wheels(wheels: Iterable[Wheel], downloads: Downloads) -> dict[str, Path]:
    """Have *wheels* in the cache; return where each is, by its file name."""
    sources = {w.file_name: Source(w.file_name, w.location, w.digest, w.size_bytes) for w in wheels}
    digests = downloads.ensure_all(sources.values(), "wheels", count_text(len(sources), "wheel"))
    return {name: downloads.blobs.path(digest) for name, digest in digests.items()}


def _first(possible: Sequence[Interpreter]) -> Interpreter:
    return possible[0]


def _solve_conda(
    environment: Environment, recipe: Recipe, base: Interpreter, settings: BuildSettings, log: Log
) -> "CondaPrefix | None":
    if environment.conda is None:
        return None
    if base.prefix == PREFIX:
        raise Invalid(
            f"the base has a conda of its own in /{PREFIX}, and two cannot be in one place; take a base without it, "
            "or move what is wanted of conda to the 'pip:' section"
        )
    # The solver's library is 80 MB that other builds do not need.
    from sanderling.image.conda.conda_prefix import CondaPrefix

    return CondaPrefix.solved(
        environment.conda, recipe.platforms, base.glibc, settings.cache, log, is_offline=settings.is_offline
    )
