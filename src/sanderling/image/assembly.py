"""Put layers together: image config, manifest, and an index when there are several platforms.

Everything is written in canonical JSON and nothing of it is a time: the same
layers and recipe give the same digest. Source: image-spec 1.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sanderling.blobs import FileBlobs
from sanderling.image.bases import Base
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.layer_file import Layer
from sanderling.image.layers.sizes import LAYER, PACKAGES
from sanderling.image.recipe import APP_ROOT, Recipe
from sanderling.image.steps import Applied
from sanderling.image.supply_chain.contents import Contents
from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, canonical_json, media_types

EPOCH = "1970-01-01T00:00:00Z"
USER = "65532:65532"
PORT = "5001/tcp"


@dataclass(frozen=True, slots=True)
class Assembled:
    """An image in a store: *descriptor* points at its manifest or index; manifests come with their platform.

    *bases* is the record of the base of each platform, *contents* what each holds; nothing where nobody asked.
    """

    descriptor: Descriptor
    manifests: tuple[Manifest, ...]
    index: Index | None
    bases: tuple[Mapping[str, Any], ...] = ()
    contents: tuple[Contents, ...] = ()

    def with_platforms(self) -> list[tuple[str, Manifest]]:
        """Each manifest with the platform it is for, as "linux/amd64"."""
        described = self.index.manifests if self.index is not None else (self.descriptor,)
        return [(str(d.platform), manifest) for d, manifest in zip(described, self.manifests, strict=True)]

    @property
    def size_bytes(self) -> int:
        """The bytes of all blobs, each counted once."""
        sizes = {blob.digest: blob.size for m in self.manifests for blob in (*m.layers, m.config)}
        sizes |= {manifest.digest: len(manifest.raw) for manifest in self.manifests}
        if self.index is not None:
            sizes[self.index.digest] = len(self.index.raw)
        return sum(sizes.values())


def labels(recipe: Recipe) -> dict[str, str]:
    """The labels that the contract between image and engine names, and the user's tags."""
    name, _, version = recipe.image.rpartition(":")
    found = {
        "io.sanderling.image": recipe.image,
        "io.sanderling.port-variable": "SERVER_PORT",
        "io.sanderling.ready-path": "/ready",
        "org.opencontainers.image.created": EPOCH,
        "org.opencontainers.image.title": name.rpartition("/")[2],
        "org.opencontainers.image.version": version,
    }
    if recipe.description:
        found["org.opencontainers.image.description"] = recipe.description
    return found | {f"io.sanderling.tag.{key}": value for key, value in recipe.tags.items()}


def variables(recipe: Recipe, python: Interpreter, base: Base) -> dict[str, str]:
    """The environment of the image's process: the base's, ours above it; where programs are is the base's to say.

    The commands of a Python of another place are found first.
    """
    kept = {name: base.env[name] for name in ("LANG", "PATH") if base.env.get(name)}
    found = {**base.env, **recipe.variables(), **kept}
    if f"/{python.scripts}" not in found["PATH"].split(":"):
        found["PATH"] = f"/{python.scripts}:{found['PATH']}"
    return found


def image_config(
    recipe: Recipe,
    python: Interpreter,
    platform: Platform,
    layers: Sequence[Layer],
    base: Base,
    steps: Applied | None = None,
) -> bytes:
    """The image config for *platform*; what *steps* set comes last."""
    document: dict[str, Any] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "created": EPOCH,
        "config": {
            "Entrypoint": [python.executable, "-m", "sanderling_scoring"],
            "Env": [f"{name}={value}" for name, value in sorted(variables(recipe, python, base).items())],
            "ExposedPorts": {PORT: {}},
            "Labels": {**base.labels, **labels(recipe)},
            "StopSignal": "SIGTERM",
            "User": base.user or USER,
            "WorkingDir": f"/{APP_ROOT}",
        },
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
        "history": [{"created": EPOCH, "created_by": f"sanderling: {layer.title}"} for layer in layers],
    }
    if steps is not None:
        document["config"] = steps.config(document["config"])
    if platform.variant:
        document["variant"] = platform.variant
    return canonical_json(document)


def assemble(
    recipe: Recipe,
    python: Interpreter,
    layers: Mapping[Platform, Sequence[Layer]],
    blobs: FileBlobs,
    bases: Mapping[Platform, Base],
    steps: Mapping[Platform, Applied] = MappingProxyType({}),
) -> Assembled:
    """Write config and manifest of each platform, and an index for several, into *blobs*.

    *layers* are all of them, those of *bases* and *steps* included.
    """
    annotations = {key: value for key, value in labels(recipe).items() if key.startswith("org.opencontainers.")}
    manifests: list[tuple[Platform, Manifest]] = []
    for platform in recipe.platforms:
        raw = image_config(recipe, python, platform, layers[platform], bases[platform], steps.get(platform))
        config = Descriptor(media_types.OCI_CONFIG, blobs.put(raw), len(raw))
        described = [
            Descriptor(
                layer.media_type,
                Digest(layer.digest),
                layer.size_bytes,
                annotations={LAYER: layer.title} | ({PACKAGES: layer.packages} if layer.packages else {}),
            )
            for layer in layers[platform]
        ]
        manifest = Manifest.build(config, described, {**annotations, **bases[platform].annotations})
        blobs.put(manifest.raw)
        manifests.append((platform, manifest))
    made = tuple(manifest for _, manifest in manifests)
    records = tuple(bases[platform].record for platform in recipe.platforms)
    if len(manifests) == 1:
        return Assembled(made[0].descriptor(manifests[0][0]), made, None, records)
    of_base = bases[recipe.platforms[0]].annotations  # they name the whole base, for all platforms
    described = [manifest.descriptor(platform) for platform, manifest in manifests]
    index = Index.build(described, {**annotations, **of_base})
    blobs.put(index.raw)
    return Assembled(index.descriptor(), made, index, records)
