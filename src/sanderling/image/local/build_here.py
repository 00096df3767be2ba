"""Build an image on this machine and take it to its destinations.

The cache may be used by several builds at once: what is in it appears whole, under
its digest or its recipe. What ends a build early, Ctrl-C too, leaves nothing in a
destination that is named and not whole; the next build goes on with the cache.

What is told about the image (see `supply_chain`) goes along beside it, where the destination can hold it.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
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
from sanderling.image.supply_chain.attachments import Attachment, told_about
from sanderling.oci import Platform
from sanderling.signatures.keys import SigningKey
from sanderling.transfer import RegistryClient
from sanderling.transfer.places import Address, DockerArchivePlace, Place, place_of
from sanderling.transfer.places.oci_archive import staging_of

STALE_AFTER_S = 24 * 3600.0  # older unfinished files belong to builds that were killed
_LOADING = "load-"
Connect = Callable[[Address], RegistryClient]


@dataclass(frozen=True, slots=True)
class Beside:
    """What goes along with an image: all that is told about it, signed where there is a *key*; or nothing.

    *is_wanted* None: to registries, and with a key to layouts too. A layout with more than the image in its list is not
    read by every program that is told its folder alone.
    """

    is_wanted: bool | None = None
    key: SigningKey | None = None

    def __post_init__(self) -> None:
        if self.key is not None and self.is_wanted is False:
            raise Invalid("a signature goes beside the image, and nothing is to go there; leave one of the two out")

    def goes_to(self, *, is_registry: bool) -> bool:
        """Whether a registry, or a layout, gets it."""
        return self.is_wanted if self.is_wanted is not None else is_registry or self.key is not None


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came to a destination. *digest* is the image's there: see `Published`; *beside*: what is told about it."""

    destination: Destination
    digest: str
    sent_bytes: int
    beside: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "place": self.destination.text,
            "name": self.destination.name,
            "reference": self.destination.reference,
            "digest": self.digest,
            "sentBytes": self.sent_bytes,
            "attachments": list(self.beside),
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
    recipe: Recipe,
    settings: BuildSettings,
    destinations: Sequence[Destination],
    connect: Connect,
    log: Log,
    beside: Beside = Beside(),
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
    deliveries = _Deliveries(recipe, connect, engine, beside, datetime.now(UTC), log)
    try:
        image, delivered = deliveries.build_for(destinations, settings)
    except DamagedLayer as e:
        log.warn("layers", f"the cached layer {e.digest} is damaged and is made anew")
        FileBlobs(settings.cache / "layers").delete(e.digest)
        image, delivered = deliveries.build_for(destinations, settings)
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


@dataclass(frozen=True, slots=True)
class _Deliveries:
    recipe: Recipe
    connect: Connect
    engine: Engine | None
    beside: Beside
    started_at: datetime
    log: Log

    def build_for(
        self, destinations: Sequence[Destination], settings: BuildSettings
    ) -> tuple[Assembled, list[Delivered]]:
        """Build the image, and bring it to each of *destinations*."""
        image, blobs = build(self.recipe, settings, self.log)
        return image, [self._deliver(image, blobs, one, settings.cache) for one in destinations]

    def _deliver(self, image: Assembled, blobs: FileBlobs, destination: Destination, cache: Path) -> Delivered:
        told = self._told_about(image, destination)
        if destination.address is None:
            assert self.engine is not None
            for_it = _for_platform(image, self.recipe, self.engine)
            published = _load(for_it, blobs, self.engine, destination, cache, self.log)
        else:
            place = place_of(destination.address, self.connect)
            published = _publish(image, blobs, place, destination.name, told, self.log)
        beside = tuple(dict.fromkeys(one.what for one in told))
        return Delivered(destination, str(published.digest), published.sent_bytes, beside)

    def _told_about(self, image: Assembled, destination: Destination) -> list[Attachment]:
        """What goes beside *image*: nothing, where the destination holds images alone."""
        if destination.address is None or destination.is_single:
            if self.beside.key is not None:
                self.log.warn(
                    "attach", f"{destination.text} holds no signature: sign with --push, oci:DIR or oci-archive:FILE"
                )
            return []
        is_registry = destination.address.kind == "registry"
        if not self.beside.goes_to(is_registry=is_registry):
            return []
        repository = destination.address.place if is_registry else self.recipe.image.rpartition(":")[0]
        return told_about(image, self.recipe, repository, self.beside.key, self.started_at, self.log)


def _publish(
    image: Assembled, blobs: FileBlobs, place: Place, name: str, told: Sequence[Attachment], log: Log
) -> Published:
    step = "push" if isinstance(getattr(place, "client", None), RegistryClient) else "write"
    progress = Progress(log, step, place.name, sum(image_blobs(image).values()))
    with _no_remains(place):
        done = asyncio.run(publish(image, blobs, place, name, progress.add, told))
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
