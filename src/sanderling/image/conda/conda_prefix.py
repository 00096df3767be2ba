"""The conda packages of one image, from the environment's wish to layers.

    solve ──▶ fetch ──▶ a layer per package ──▶ what pip's packages find there

What `build` needs to know of conda is here.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from sanderling.image.conda.brought import LOCAL, find_brought, leave_out, tell_resolver
from sanderling.image.conda.channels import Channel, with_token
from sanderling.image.conda.layers import CondaLayers, group_packages, settle
from sanderling.image.conda.lock import CondaLock
from sanderling.image.conda.solve import CondaSolver
from sanderling.image.conda.wish import read_wish
from sanderling.image.downloads import Downloads, Source
from sanderling.image.environment.conda_part import CondaPart
from sanderling.image.environment.environment import Environment
from sanderling.image.events import Log
from sanderling.image.figures import count_text
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.store import LayerStore, Made
from sanderling.image.packages.resolve import Resolver, Wheel
from sanderling.image.packages.uv_errors import ResolutionFailed
from sanderling.oci import Platform


@dataclass(frozen=True, slots=True)
class CondaPrefix:
    """What is chosen for /opt/conda: *locks* by platform, *python* of them all."""

    part: CondaPart
    locks: Mapping[Platform, CondaLock]
    python: Interpreter
    cache: Path
    log: Log

    @classmethod
    def solved(
        cls,
        part: CondaPart,
        platforms: Iterable[Platform],
        glibc: tuple[int, int],
        cache: Path,
        log: Log,
        *,
        is_offline: bool = False,
    ) -> "CondaPrefix":
        """Choose the packages. Raises what `CondaSolver.solve` raises."""
        locks = CondaSolver(cache, log, is_offline=is_offline).solve(part, platforms, glibc)
        return cls(part, locks, next(iter(locks.values())).interpreter(glibc), cache, log)

    @property
    def _channels(self) -> list[Channel]:
        first = next(iter(self.locks))
        return list(read_wish(self.part, first, self.python.glibc).channels)

    def fetch(self, downloads: Downloads) -> dict[str, Path]:
        """Have all packages in the cache; return where each is, by sha256. Raises what `Downloads` raises."""
        packages = {f"{p.subdir}/{p.file_name}": p for lock in self.locks.values() for p in lock.packages}
        sources = [
            Source(name, with_token(package.url, self._channels), package.digest, package.size_bytes)
            for name, package in packages.items()
        ]
        digests = downloads.ensure_all(sources, "conda", count_text(len(sources), "conda package"))
        return {packages[name].sha256: downloads.blobs.path(digest) for name, digest in digests.items()}

    def start(
        self, downloads: Downloads, layers: LayerStore, pool: Executor, at_most: int
    ) -> dict[Platform, list[Future[Made]]]:
        """Fetch all packages and begin to make their layers, *at_most* a platform; those shared are made once."""
        files = self.fetch(downloads)
        maker = CondaLayers(layers, self.python, self.log)
        started: dict[tuple[str, ...], Future[Made]] = {}
        found: dict[Platform, list[Future[Made]]] = {}
        for platform, lock in self.locks.items():
            found[platform] = []
            for group in group_packages(lock.packages, files, at_most):
                names = tuple(f"{package.subdir}/{package.file_name}" for package in group)
                if names not in started:
                    started[names] = pool.submit(maker.make, group, files)
                found[platform].append(started[names])
        return found

    def settle(self, made: Sequence[Made]) -> list[Made]:
        """The layers of one platform as they go into the image; see `layers.settle`."""
        return settle(made, self.log)

    def wheels(
        self, resolver: Resolver, environment: Environment, platform: Platform, made: Sequence[Made]
    ) -> list[Wheel]:
        """The wheels of the pip section that the layers *made* do not bring. Raises what `Resolver.resolve` raises."""
        if not environment.requirements:
            return []
        brought = find_brought((path for layer in made for path in layer.files), self.python.site)
        told = tell_resolver(environment, brought, self.cache / "conda" / "brought")
        try:
            wheels = resolver.resolve(told, platform, self.python)
        except ResolutionFailed as e:
            text = e.message.replace(f"+{LOCAL}", " (which conda brings)")
            raise ResolutionFailed(text, package=e.package) from e
        return leave_out(wheels, brought)
