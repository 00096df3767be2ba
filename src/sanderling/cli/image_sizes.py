"""What `sanderling image show --sizes` prints: where the bytes of an image are."""

from collections.abc import Iterator, Mapping
from typing import Any

from sanderling.cli.output import Output, size_text

COLUMNS = ("LAYER", "#SIZE", "#DOWNLOAD", "SHARED WITH")
_MOST_NAMES = 3


def show_sizes(out: Output, report: Mapping[str, Any]) -> None:
    """Print the report of `Image.sizes`, a table for each platform."""
    before = report["previous"]
    out.line()
    if not report["platforms"]:
        out.line("the sizes of its layers are not known: it was built by an earlier version; build it again")
    for platform in report["platforms"]:
        has = f"a device that has {before}" if before else "a device that has no version of it"
        shared = size_text(platform["sharedBytes"])
        out.line(f"{platform['platform']}: {size_text(platform['sizeBytes'])}, {shared} of it in other images too")
        out.line(f"{has} downloads {size_text(platform['downloadBytes'])}")
        out.table(COLUMNS, list(_rows(platform["layers"])))


def _rows(layers: list[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    for layer in layers:
        new = size_text(layer["sizeBytes"]) if layer["isNew"] else "-"
        yield layer["title"], size_text(layer["sizeBytes"]), new, _names(layer["sharedWith"])
        packages = sorted(layer["packages"], key=lambda package: -package["sizeBytes"])
        if len(packages) > 1:  # the sizes are those of the packages' own files; as part of a layer they differ a little
            for package in packages:
                yield f"  {package['name']} {package['version']}", f"({size_text(package['sizeBytes'])})", "", ""


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
