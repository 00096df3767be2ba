"""Fetch all that a build of an environment needs into a folder (see `offline`)."""

from pathlib import Path

from sanderling.image.build import Build, BuildSettings, read_environment
from sanderling.image.debian.lock import write_locks
from sanderling.image.events import Log
from sanderling.image.figures import count_text, size_text
from sanderling.image.local.offline import DEBIAN, WHEELS, OfflineFolder, write
from sanderling.image.parts import DEBIAN_ARCHITECTURES
from sanderling.image.recipe import Recipe


def prefetch(recipe: Recipe, settings: BuildSettings, folder: Path, log: Log) -> OfflineFolder:
    """Choose and fetch the packages that *recipe*'s environment and base need, for each platform, into *folder*.

    Script, files and models are not looked at. Raises what `build` raises for an
    environment, and what `offline.write` does; then the folder is not used.
    """
    environment = read_environment(recipe)
    for note in environment.notes:
        log.say("environment", note)
    build = Build(recipe, environment, settings, log)
    carried: dict[str, Path] = {}
    locks = []
    try:
        for platform in recipe.platforms:
            lock = build.parts.archive.lock(DEBIAN_ARCHITECTURES[platform.architecture])
            locks.append(lock)
            files = build.parts.archive.fetch(lock)
            carried |= {f"{DEBIAN}/{p.filename.rpartition('/')[2]}": files[p.name] for p in lock.packages}
            wheels = build.resolver.resolve(environment, platform, build.python)
            carried |= {f"{WHEELS}/{name}": path for name, path in build.fetch(wheels).items()}
    finally:
        build.downloads.close()
    platforms = [str(platform) for platform in recipe.platforms]
    done = write(folder, carried, write_locks(locks), platforms, build.python.version, log)
    log.say("write", f"{folder}: {count_text(len(done.files), 'file')}, {size_text(done.size_bytes)}")
    return done
