"""Build an image on this machine and take it to its destinations.

The cache may be used by several builds at once: what is in it appears whole, under
its digest or its recipe. What ends a build early, Ctrl-C too, leaves nothing in a
destination that is named and not whole; the next build goes on with the cache.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, Unavailable
from sanderling.image.assembly import Assembled
from sanderling.image.build import BuildSettings, build
from sanderling.image.events import Log, Progress
from sanderling.image.figures import size_text
from sanderling.image.layout import DamagedLayer, Published, image_blobs, publish
from sanderling.image.local.destinations import Destination
from sanderling.image.local.engine import Engine, find_engine
from sanderling.image.local.offline import OfflineFolder
from sanderling.image.packages.wheel_sources import WheelSources
from sanderling.image.recipe import Recipe
from sanderling.oci import Platform
from sanderling.transfer import RegistryClient
from sanderling.transfer.places import Address, DockerArchivePlace, Place, place_of
from sanderling.transfer.places.oci_archive import staging_of

STALE_AFTER_S = 24 * 3600.0  # older unfinished files belong to builds that were killed
_LOADING = "load-"
Connect = Callable[[Address], RegistryClient]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came to a destination. *digest* is the image's there: see `Published`."""

    destination: Destination
    digest: str
    sent_bytes: int

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "place": self.destination.text,
            "name": self.destination.name,
            "digest": self.digest,
            "sentBytes": self.sent_bytes,
        }


@dataclass(frozen=True, slots=True)
class BuiltHere:
    """An image, where it is now, and how long it took."""

    recipe: Recipe
    image: Assembled
    delivered: tuple[Delivered, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        layers = {layer.digest: layer for manifest in self.image.manifests for layer in manifest.layers}
        return {
            "image": self.recipe.image,
            "digest": str(self.image.descriptor.digest),
            "sizeBytes": self.image.size_bytes,
            "platforms": [str(platform) for platform in self.recipe.platforms],
            "layers": [
                {
                    "digest": str(layer.digest),
                    "sizeBytes": layer.size,
                    "title": layer.annotations.get("io.sanderling.layer"),
                }
                for layer in layers.values()
            ],
            "outputs": [one.to_json() for one in self.delivered],
            "seconds": round(self.seconds, 3),
        }


def build_here(
    recipe: Recipe, settings: BuildSettings, destinations: Sequence[Destination], connect: Connect, log: Log
) -> BuiltHere:
    """Build *recipe* and bring the image to each of *destinations*, in order; *connect* reaches registries.

    A layer of the cache that turns out to be damaged is made anew, once. Raises what
    `build` raises, NoEngine before anything is built, and what the places raise.
    Not for use on an event loop.
    """
    began = time.monotonic()
    engine = find_engine() if any(one.address is None for one in destinations) else None
    if engine is not None:
        _chosen_platform(recipe, engine)
    _tidy(settings.cache)
    try:
        image, delivered = _build_and_deliver(recipe, settings, destinations, connect, engine, log)
    except DamagedLayer as e:
        log.warn("layers", f"the cached layer {e.digest} is damaged and is made anew")
        FileBlobs(settings.cache / "layers").delete(e.digest)
        image, delivered = _build_and_deliver(recipe, settings, destinations, connect, engine, log)
    return BuiltHere(recipe, image, tuple(delivered), time.monotonic() - began)


def offline_settings(settings: BuildSettings, folder: Path, recipe: Recipe, log: Log) -> BuildSettings:
    """*settings* for a build that takes all from *folder* (see `offline`) and the cache, and fetches nothing.

    Raises NotFound, OfflineFolderInvalid.
    """
    carried = OfflineFolder.read(folder)
    carried.check(map(str, recipe.platforms))
    carried.bring_in(FileBlobs(settings.cache / "downloads"), log)
    wheels = WheelSources(carried.wheelhouse, is_offline=True)
    return replace(settings, wheels=wheels, base_lock=carried.base_lock, is_offline=True)


def _tidy(cache: Path) -> None:
    """Remove what builds that were killed left unfinished."""
    before = time.time() - STALE_AFTER_S
    for store in ("downloads", "layers"):
        FileBlobs(cache / store).remove_stale(before)
    for folder in cache.glob(f"{_LOADING}*"):
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)


def _build_and_deliver(
    recipe: Recipe,
    settings: BuildSettings,
    destinations: Sequence[Destination],
    connect: Connect,
    engine: Engine | None,
    log: Log,
) -> tuple[Assembled, list[Delivered]]:
    image, blobs = build(recipe, settings, log)
    delivered = []
    for destination in destinations:
        if destination.address is None:
            assert engine is not None
            published = _load(_for_platform(image, recipe, engine), blobs, engine, destination, settings.cache, log)
        else:
            place = place_of(destination.address, connect)
            published = _publish(image, blobs, place, destination.name, log)
        delivered.append(Delivered(destination, str(published.digest), published.sent_bytes))
    return image, delivered


def _publish(image: Assembled, blobs: FileBlobs, place: Place, name: str, log: Log) -> Published:
    step = "push" if isinstance(getattr(place, "client", None), RegistryClient) else "write"
    progress = Progress(log, step, place.name, sum(image_blobs(image).values()))
    with _no_remains(place):
        done = asyncio.run(publish(image, blobs, place, name, progress.add))
    progress.finish()
    log.say(step, f"{place.name}: {name}, {size_text(done.sent_bytes)} of {size_text(image.size_bytes)} sent")
    return done


@contextmanager
def _no_remains(place: Place) -> Iterator[None]:
    """Remove what an archive gathers beside itself when it is not finished: the cache has all of it."""
    try:
        yield
    except BaseException:
        path = getattr(place, "path", None)
        if isinstance(path, Path):
            shutil.rmtree(staging_of(path, place.name).folder, ignore_errors=True)
        raise


def _chosen_platform(recipe: Recipe, engine: Engine) -> Platform:
    """The platform of *recipe* that *engine* runs. Raises Invalid."""
    for platform in recipe.platforms:
        if engine.platform.runs(platform):
            return platform
    listed = ", ".join(map(str, recipe.platforms))
    raise Invalid(
        f"{Path(engine.program).name} runs {engine.platform} here, and the image is for {listed}: add that platform"
    )


def _for_platform(image: Assembled, recipe: Recipe, engine: Engine) -> Assembled:
    """The image for the engine's platform alone."""
    platform = _chosen_platform(recipe, engine)
    manifest = image.manifests[recipe.platforms.index(platform)]
    return Assembled(manifest.descriptor(platform), (manifest,), None)


def _load(
    image: Assembled, blobs: FileBlobs, engine: Engine, destination: Destination, cache: Path, log: Log
) -> Published:
    """Bring *image* into the engine, through an archive beside the cache: models may be larger than /tmp."""
    program = Path(engine.program).name
    log.say("write", f"{destination.name} into {program}")
    try:
        with tempfile.TemporaryDirectory(dir=cache, prefix=_LOADING) as folder:
            archive = Path(folder, "image.tar")
            done = asyncio.run(publish(image, blobs, DockerArchivePlace(archive), destination.name))
            engine.load(archive)
    except OSError as e:
        raise Unavailable(f"{cache} cannot hold the image for {program}: {e.strerror or e}") from e
    log.say("write", f"{program} has {destination.name} now")
    return done
