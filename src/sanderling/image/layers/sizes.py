"""Where the bytes of an image are: by layer and package, shared with which images, new to a device with another one.

A layer in a build's record is ``{digest, sizeBytes, title, platforms, packages: [{name, version, sizeBytes}]}``, where
a package's size is that of its wheel or Debian package; it is what the layer's manifest says in annotations:

    io.sanderling.layer     what the layer is, for people
    io.sanderling.packages  "NAME VERSION BYTES", joined by "; "

Sizes are as compressed: what a pull moves. Configs and manifests, some kilobytes, are not counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sanderling.oci import Manifest

LAYER = "io.sanderling.layer"
PACKAGES = "io.sanderling.packages"

Record = Sequence[Mapping[str, Any]]


def packages_text(packages: Iterable[tuple[str, str, int]]) -> str:
    """The annotation that names *packages*: name, version and bytes of each."""
    return "; ".join(f"{name} {version} {size}" for name, version, size in sorted(packages))


def parse_packages(text: str) -> list[dict[str, Any]]:
    """Read what `packages_text` wrote; what is not of its form is left out, for others may write it too."""
    found = []
    for part in text.split("; "):
        words = part.split(" ")
        if len(words) == 3 and words[2].isascii() and words[2].isdecimal():
            found.append({"name": words[0], "version": words[1], "sizeBytes": int(words[2])})
    return found


def layers_record(manifests: Iterable[tuple[str, Manifest]]) -> list[dict[str, Any]]:
    """The layers of *manifests*, which come with their platforms, each layer once."""
    record: dict[str, dict[str, Any]] = {}
    for platform, manifest in manifests:
        for layer in manifest.layers:
            entry = record.setdefault(
                str(layer.digest),
                {
                    "digest": str(layer.digest),
                    "sizeBytes": layer.size,
                    "title": layer.annotations.get(LAYER),
                    "platforms": [],
                    "packages": parse_packages(layer.annotations.get(PACKAGES, "")),
                },
            )
            if platform not in entry["platforms"]:
                entry["platforms"].append(platform)
    return list(record.values())


def size_report(
    layers: Record, others: Mapping[str, Record] | None = None, previous: Record | None = None
) -> list[dict[str, Any]]:
    """Where the bytes of *layers* are, for each platform.

    *others* are the layers of other images by name; *previous* is what a device has
    already (None: nothing). Returns, for each platform, ``{platform, sizeBytes,
    sharedBytes, downloadBytes, layers: [{digest, title, sizeBytes, isNew, sharedWith, packages}]}``.
    """
    owners: dict[str, list[str]] = {}
    for name, record in (others or {}).items():
        for layer in record:
            owners.setdefault(layer["digest"], []).append(name)
    report = []
    for platform in sorted({platform for layer in layers for platform in layer.get("platforms") or ()}):
        # A device has what it pulled: the layers of its own platform.
        there = {layer["digest"] for layer in _of(previous or (), platform)}
        rows = [
            {
                "digest": layer["digest"],
                "title": layer.get("title") or "",
                "sizeBytes": layer["sizeBytes"],
                "isNew": layer["digest"] not in there,
                "sharedWith": owners.get(layer["digest"], []),
                "packages": list(layer.get("packages") or ()),
            }
            for layer in _of(layers, platform)
        ]
        report.append(
            {
                "platform": platform,
                "sizeBytes": sum(row["sizeBytes"] for row in rows),
                "sharedBytes": sum(row["sizeBytes"] for row in rows if row["sharedWith"]),
                "downloadBytes": sum(row["sizeBytes"] for row in rows if row["isNew"]),
                "layers": rows,
            }
        )
    return report


def _of(record: Record, platform: str) -> list[Mapping[str, Any]]:
    return [layer for layer in record if platform in (layer.get("platforms") or ())]
