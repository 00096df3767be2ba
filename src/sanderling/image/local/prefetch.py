"""Fetch all that a build of an environment needs into a folder (see `offline`)."""

from contextlib import closing
from functools import partial
from pathlib import Path

from sanderling.errors import Invalid
from sanderling.image.bases import choose_base
from sanderling.image.bases.debian_base import DebianBase
from sanderling.image.build import BuildSettings, fetch_wheels, open_downloads
from sanderling.image.check import read_environment
from sanderling.image.debian.lock import write_locks
from sanderling.image.debian.versions import ARCHITECTURES
from sanderling.image.environment.choose_python import choose_python
from sanderling.image.events import Log
from sanderling.image.figures import count_text, size_text
from sanderling.image.local.offline import DEBIAN, WHEELS, OfflineFolder, write
from sanderling.image.packages.resolve import Resolver
from sanderling.image.recipe import Recipe


def prefetch(recipe: Recipe, settings: BuildSettings, folder: Path, log: Log) -> OfflineFolder:
    """Choose and fetch the packages that *recipe*'s environment and base need, for each platform, into *folder*.

    Script, files and models are not looked at. Raises what `build` raises for an
    environment, and what `offline.write` does; then the folder is not used.
    """
    environment = read_environment(recipe)
    if environment.conda is not None:
        raise Invalid(
            "conda packages cannot be carried in a folder: build once with the network and --cache DIR, carry DIR, "
            "and build there with --cache DIR --no-network"
        )
    for note in environment.notes:
        log.say("environment", note)
    resolver = Resolver(settings.cache, log, settings.wheels)
    carried: dict[str, Path] = {}
    locks = []
    with closing(open_downloads(settings, environment, log)) as downloads:
        choose = partial(choose_python, environment)
        base = choose_base(recipe.base, recipe.platforms, choose, settings, downloads, log)
        if not isinstance(base, DebianBase):
            raise Invalid(
                f"the base {recipe.base} is an image: carry it with 'sanderling image copy', as oci-archive:FILE"
            )
        for platform in recipe.platforms:
            lock = base.archive.lock(ARCHITECTURES[str(platform)])
            locks.append(lock)
            files = base.archive.fetch(lock)
            carried |= {f"{DEBIAN}/{p.filename.rpartition('/')[2]}": files[p.name] for p in lock.packages}
            wheels = resolver.resolve(environment, platform, base.python)
            carried |= {f"{WHEELS}/{name}": path for name, path in fetch_wheels(wheels, downloads).items()}
    platforms = [str(platform) for platform in recipe.platforms]
    done = write(folder, carried, write_locks(locks), platforms, base.python.version, log)
    log.say("write", f"{folder}: {count_text(len(done.files), 'file')}, {size_text(done.size_bytes)}")
    return done
