"""A base that is another image: its layers as they are, and what was found in them.

    CACHE/bases/roots/DIGEST.json    what was found in the image with this manifest

Nothing of it runs, and nothing is unpacked to a disk: its layers are read once.
"""

import asyncio
import gzip
import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Self

from sanderling.blobs import FileBlobs
from sanderling.durable import write_durably
from sanderling.errors import Invalid
from sanderling.image.bases.base import Base
from sanderling.image.bases.fetch import LAYER_TYPES, BaseImages
from sanderling.image.bases.installed import find_installed
from sanderling.image.bases.pythons import BaseRefused, find_pythons, find_user, is_wanted
from sanderling.image.bases.reference import parse_base
from sanderling.image.bases.root import Root
from sanderling.image.events import Log
from sanderling.image.figures import count_text, size_text
from sanderling.image.interpreter import Interpreter
from sanderling.image.keep import read_json
from sanderling.image.layers.layer_file import Layer
from sanderling.image.layers.store import LayerStore, Made
from sanderling.oci import Digest, ImageConfig, Manifest, Platform, Reference, media_types

FOUND_VERSION = 1  # raise it when another look would find other things
MAX_PLAIN_BYTES = 64 << 30
_BUFFER = 1 << 18
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# They say what the base is, not what the image is that stands on it.
_OWN_LABELS = ("org.opencontainers.image.", "io.sanderling.")

Choose = Callable[[Sequence[Interpreter]], Interpreter]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one image. *packages*: by site, then name, see `find_installed`; *plain_bytes*: by layer."""

    pythons: tuple[Interpreter, ...]
    user: str
    packages: Mapping[str, Mapping[str, list[str]]]
    plain_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Image:
    manifest: Manifest
    config: ImageConfig
    found: Found


class OciBase:
    """The image *reference* as a base; `open` fetches it."""

    def __init__(
        self, reference: Reference, digest: Digest, images: Mapping[Platform, _Image], python: Interpreter, log: Log
    ) -> None:
        self.reference, self.digest, self._images, self._python, self._log = reference, digest, images, python, log

    @classmethod
    def open(
        cls,
        text: str,
        platforms: Sequence[Platform],
        images: BaseImages,
        cache: Path,
        blobs: FileBlobs,
        choose: Choose,
        log: Log,
    ) -> Self:
        """Fetch the image *text* for *platforms* and look into it; *choose* says which of its Pythons it is.

        Raises BaseRefused when it has none, PlatformMissing, and what
        `sanderling.transfer` does. Not for use on an event loop.
        """
        reference = parse_base(text)
        digest, fetched = asyncio.run(images.fetch(reference, platforms))
        log.say("base", f"{_name(reference)} is {digest}")
        looked = {}
        for platform, (manifest, config) in fetched.items():
            found = _look(cache / "bases" / "roots", blobs, str(reference), platform, manifest, config)
            looked[platform] = _Image(manifest, config, found)
        python = choose(common_pythons([image.found.pythons for image in looked.values()], str(reference)))
        return cls(reference, digest, looked, python, log)

    @property
    def python(self) -> Interpreter:
        """The chosen Python."""
        return self._python

    @property
    def layer_count(self) -> int:
        """Those of the image, and one that takes away what gives way to packages of ours."""
        return max(len(image.manifest.layers) for image in self._images.values()) + 1

    def make(self, platform: Platform, layers: LayerStore) -> Base:
        """The base for *platform*; its layers are in the store already."""
        image = self._images[platform]
        count = len(image.manifest.layers)
        made = []
        for number, layer in enumerate(image.manifest.layers):
            own = Layer(
                layer.digest,
                image.config.diff_ids[number],
                layer.size,
                image.found.plain_bytes[number],
                f"base layer {number + 1} of {count}",
                LAYER_TYPES[layer.media_type],
            )
            made.append(Made(own, {}, True))
        glibc = ".".join(map(str, self.python.glibc))
        size = size_text(sum(layer.size for layer in image.manifest.layers))
        text = f"{platform}: Python {self.python.version} ({self.python.executable}), glibc {glibc}"
        self._log.say("base", f"{text}, {count_text(count, 'layer')}, {size}")
        for words in _left_out(image.config):
            self._log.say("base", words)
        annotations = {
            "org.opencontainers.image.base.name": _name(self.reference),
            "org.opencontainers.image.base.digest": str(self.digest),
        }
        labels = {name: value for name, value in image.config.labels.items() if not name.startswith(_OWN_LABELS)}
        return Base(
            tuple(made),
            image.config.variables,
            image.found.user,
            labels,
            image.found.packages.get(self.python.site, {}),
            annotations,
            self._record(platform, image),
        )

    def _record(self, platform: Platform, image: _Image) -> dict[str, Any]:
        return {
            "kind": "oci",
            "platform": str(platform),
            "name": _name(self.reference),
            "digest": str(self.digest),
            "manifest": str(image.manifest.digest),
            "layers": [str(layer.digest) for layer in image.manifest.layers],
            "python": asdict(self.python),
        }


def common_pythons(every: Sequence[Sequence[Interpreter]], reference: str) -> list[Interpreter]:
    """The Pythons that an image has on all platforms, each with the oldest of its glibcs. Raises BaseRefused."""
    common = []
    for python in every[0]:
        alike = [next((p for p in pythons if replace(p, glibc=python.glibc) == python), None) for pythons in every]
        there = [p for p in alike if p is not None]
        if len(there) == len(every):
            common.append(replace(python, glibc=min(p.glibc for p in there)))
    if not common:
        raise BaseRefused(reference, "it has other Pythons on each platform; build for one platform at a time")
    return common


def _name(reference: Reference) -> str:
    """What the base is called: without its digest, when a tag says more."""
    return str(replace(reference, digest=None)) if reference.tag else str(reference)


def _left_out(config: ImageConfig) -> Iterator[str]:
    """What of the base's config the image does not have, for it has a process of its own."""
    settings = config.to_json().get("config") or {}
    for name, word in (("Volumes", "volumes"), ("Healthcheck", "health check"), ("OnBuild", "ONBUILD steps")):
        if settings.get(name):
            yield f"the base's {word} are of its own process, and are left out"


def _look(
    folder: Path, blobs: FileBlobs, reference: str, platform: Platform, manifest: Manifest, config: ImageConfig
) -> Found:
    """What is in the image, from an earlier look if there was one."""
    place = folder / f"{manifest.digest.hex}.json"
    known = _read_found(place)
    if known is not None and len(known.plain_bytes) == len(manifest.layers):
        return known
    root = Root(is_wanted)
    sizes = []
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        compression = media_types.LAYER_COMPRESSION[layer.media_type]
        try:
            sizes.append(_add_layer(root, blobs.path(layer.digest), compression, diff_id))
        except (tarfile.TarError, EOFError, OSError, zlib.error, Invalid) as e:
            reason = e.message if isinstance(e, Invalid) else str(e)
            raise BaseRefused(reference, f"its layer {layer.digest} is broken: {reason}") from e
    search = config.variables.get("PATH", _DEFAULT_PATH).split(":")
    pythons = tuple(find_pythons(root, [folder for folder in search if folder.startswith("/")], platform, reference))
    packages = {python.site: find_installed(root, python.site) for python in pythons}
    found = Found(pythons, find_user(root, config.user), packages, tuple(sizes))
    write_durably(place, json.dumps({"version": FOUND_VERSION, **asdict(found)}).encode())
    return found


def _read_found(place: Path) -> Found | None:
    data = read_json(place)
    if data is None or data.get("version") != FOUND_VERSION:
        return None
    try:
        pythons = tuple(Interpreter(**p | {"glibc": tuple(p["glibc"])}) for p in data["pythons"])
        return Found(pythons, str(data["user"]), dict(data["packages"]), tuple(data["plain_bytes"]))
    except (KeyError, TypeError):
        return None


class _Counted:
    """A stream that hashes and counts what is read of it, up to a limit."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.size = stream, 0
        self._hash = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        piece = self._stream.read(count)
        self.size += len(piece)
        if self.size > MAX_PLAIN_BYTES:
            raise Invalid(f"it unpacks to more than {MAX_PLAIN_BYTES >> 30} GiB")
        self._hash.update(piece)
        return piece

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _add_layer(root: Root, path: Path, compression: str | None, diff_id: Digest) -> int:
    """Put the layer at *path* onto *root*; return its plain size. Its bytes must be what *diff_id* says."""
    with path.open("rb") as file, unpacking(file, compression) as plain:
        counted = _Counted(plain)
        with tarfile.open(fileobj=counted, mode="r|", bufsize=_BUFFER) as tar:  # type: ignore[call-overload]  # it reads only
            root.add_layer(tar)
        while counted.read(_BUFFER):
            continue
    if counted.digest != diff_id:
        raise Invalid(f"it unpacks to {counted.digest}, and its config promises {diff_id}")
    return counted.size


@contextmanager
def unpacking(file: IO[bytes], compression: str | None) -> Iterator[IO[bytes]]:
    """Read a layer's blob as its plain tar; *compression* is None, gzip or zstd."""
    if compression == "gzip":
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            yield stream  # type: ignore[misc]  # it reads, and that is all that is asked
    elif compression == "zstd":
        import zstandard  # few bases have such layers

        try:
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False) as reader:
                yield reader
        except zstandard.ZstdError as e:
            raise Invalid(str(e)) from e
    else:
        yield file
