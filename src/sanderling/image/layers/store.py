"""Layers by what they are made from: made once, then found again.

    CACHE/layers/           the layers themselves, by digest
    CACHE/recipes/KEY.json  which layer a recipe gave, and the paths in it

A recipe is all that the layer's bytes depend on: kind, inputs by sha256, the
version of this builder, the codec and the compiler. Other images with the same
recipe share the layer. Layers are made by the callers' threads; all of them
compress on one pool, a thread for each processor.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.durable import write_durably
from sanderling.errors import Unavailable
from sanderling.image.events import Log
from sanderling.image.figures import count_text, size_text
from sanderling.image.keep import read_json
from sanderling.image.layers.bytecode import CompiledSources, Compiler, is_worth_compiling
from sanderling.image.layers.codec import Compression, codec
from sanderling.image.layers.layer_file import Layer, write_layer
from sanderling.image.layers.tree import Entry
from sanderling.image.packages.wheels import SamePath
from sanderling.oci import Digest

BUILDER_VERSION = 2  # raise it when the same inputs would give other bytes

Opened = AbstractContextManager[list[Entry]]


@dataclass(frozen=True, slots=True)
class Made:
    """A layer, and a fingerprint of each file in it by path (see `Entry.fingerprint`)."""

    layer: Layer
    files: Mapping[str, str]
    was_cached: bool


class Stopped(Unavailable):
    """Another part of the build failed; this one need not be finished."""

    def __init__(self) -> None:
        super().__init__("the build was stopped because another part of it failed")


class LayerStore:
    """Makes layers into *blobs* and remembers them below *cache*; `stop` ends what is being made."""

    def __init__(self, cache: Path, log: Log, compiler: Compiler | None, compression: Compression = "gzip") -> None:
        self.blobs = FileBlobs(cache / "layers")
        self._recipes = cache / "recipes"
        self._log = log
        self.compiler = compiler
        self.codec = codec(compression)
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, "compress")
        self._compiled = CompiledSources()
        self._is_stopped = threading.Event()
        if not self.codec.is_as_expected:
            text = f"the {compression} library here is not the one that Sanderling brings: digests will be others"
            log.warn("layers", f"{text} than on other hosts; install sanderling[server] with its own dependencies")

    def stop(self) -> None:
        """Let the layers that are being made give up soon, with Stopped."""
        self._is_stopped.set()

    def check(self) -> None:
        """Raise Stopped when `stop` was called."""
        if self._is_stopped.is_set():
            raise Stopped

    def close(self) -> None:
        """End the threads, once no layer is being made."""
        self._threads.shutdown(cancel_futures=True)

    def key(self, kind: str, inputs: object, *, compiled: bool) -> str:
        """The name of the recipe."""
        version = self.compiler.identity if compiled and self.compiler else None
        text = json.dumps([BUILDER_VERSION, self.codec.name, version, kind, inputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, key: str) -> Made | None:
        """The layer that the recipe *key* gave, when it is still there with its size."""
        data = read_json(self._recipes / f"{key}.json")
        if data is None:
            return None
        try:
            fields = dict(data["layer"])
            layer = Layer(**fields | {name: Digest.parse(fields[name]) for name in ("digest", "diff_id")})
            files = dict(data["files"])
        except (KeyError, TypeError, ValueError):
            return None
        info = self.blobs.find(layer.digest)
        return Made(layer, files, True) if info is not None and info.size == layer.size_bytes else None

    def ensure(
        self,
        kind: str,
        inputs: object,
        title: str,
        opened: Callable[[], Opened],
        *,
        compiled: bool = False,
        packages: str = "",
    ) -> Made:
        """The layer of the entries that *opened* gives, with bytecode when *compiled*; made unless it is there.

        *packages* says what is in it (see `sanderling.image.layers.sizes`) and follows from *inputs*.
        """
        key = self.key(kind, inputs, compiled=compiled)
        found = self.find(key)
        if found is not None:
            return found
        with opened() as entries:
            if compiled and self.compiler is not None:
                sources = [entry for entry in entries if entry.kind == "file" and is_worth_compiling(entry.path)]
                entries = [*entries, *self.compiler.compile(sources, self._compiled, self._is_stopped.is_set)]
            layer = write_layer(self._until_stopped(entries), self.blobs, title, self.codec, self._threads)
            layer = replace(layer, packages=packages)
            files = {entry.path: entry.fingerprint() for entry in entries if entry.kind != "folder"}
        fields = {name: getattr(layer, name) for name in Layer.__dataclass_fields__}
        write_durably(self._recipes / f"{key}.json", json.dumps({"layer": fields, "files": files}).encode())
        sizes = f"{size_text(layer.plain_bytes)}, {size_text(layer.size_bytes)} compressed"
        self._log.say("layers", f"{title}: {count_text(len(files), 'file')}, {sizes}")
        return Made(layer, files, False)

    def _until_stopped(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self.check()
            yield entry


def check_paths(layers: Iterable[Made]) -> None:
    """Raise SamePath when two of *layers* bring different files of one path."""
    owners: dict[str, tuple[str, str]] = {}
    for made in layers:
        for path, fingerprint in made.files.items():
            first = owners.setdefault(path, (made.layer.title, fingerprint))
            if first[1] != fingerprint:
                raise SamePath(path, first[0], made.layer.title)
