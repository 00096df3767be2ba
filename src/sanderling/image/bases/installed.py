"""The Python packages that a base has, and how to take one away: a wheel of another version must not mix with it.

What belongs to a package is what its RECORD lists, and the bytecode of that. In a
layer, an empty file called .wh.NAME takes NAME of the layers below away.

Sources: the core metadata specification "Recording installed projects"; image-spec 1.1, "Whiteouts".
"""

import csv
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from sanderling.image.bases.root import Root
from sanderling.image.layers.tree import Entry

_DIST_INFO = re.compile(r"([A-Za-z0-9._]+)-[^-/]+\.dist-info")
_WHITEOUT = ".wh."


def one_name(name: str) -> str:
    """*name* of a package in its one form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_installed(root: Root, site: str) -> dict[str, list[str]]:
    """The packages in the folder *site* by name, and the paths to take away to be rid of each; none when it cannot be.

    A folder that is all a package's is one path.
    """
    found: dict[str, list[str]] = {}
    place = root.resolve(site)
    if not place:
        return found
    for folder in root.list(place):
        match = _DIST_INFO.fullmatch(folder)
        if match:
            record = root.find(f"{place}/{folder}/RECORD")
            listed = set(_listed(record.content or b"", place)) if record is not None else set()
            paths = sorted(_fewest(root, place, listed)) if listed else []
            found.setdefault(one_name(match[1]), []).extend(paths)
    return found


def whiteouts(paths: Iterable[str]) -> list[Entry]:
    """The entries of a layer that takes *paths* of the layers below away."""
    entries = []
    for path in sorted(set(paths)):
        folder, slash, name = path.rpartition("/")
        entries.append(Entry(f"{folder}{slash}{_WHITEOUT}{name}", "file", 0o644))
    return entries


def replaced(installed: Mapping[str, list[str]], names: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Of *installed* what *names* bring anew: what to take away by name, and whose files nobody knows."""
    again = {name: installed[name] for name in sorted({one_name(name) for name in names}) if name in installed}
    return {name: paths for name, paths in again.items() if paths}, [name for name, paths in again.items() if not paths]


def _listed(record: bytes, site: str) -> Iterator[str]:
    """The paths from the root that the text of a RECORD names, inside of the prefix that *site* is in."""
    prefix = site.partition("/lib/")[0]
    try:
        rows = list(csv.reader(record.decode("utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error):
        return
    for row in rows:
        path = posixpath.normpath(posixpath.join("/" + site, row[0])).lstrip("/") if row and row[0] else ""
        if path.startswith(f"{prefix}/") and path != site:
            yield path


def _fewest(root: Root, site: str, listed: set[str]) -> Iterator[str]:
    """Whole folders of *site* in which all is *listed*, and the other files that are listed and there."""
    tops = {path.removeprefix(f"{site}/").partition("/")[0] for path in listed if path.startswith(f"{site}/")}
    whole = {f"{site}/{top}" for top in tops if _is_all(root, f"{site}/{top}", listed)}
    yield from whole
    for path in listed:
        top = "/".join([site, path.removeprefix(f"{site}/").partition("/")[0]])
        if top not in whole and root.kind(path) in ("file", "link"):
            yield path


def _is_all(root: Root, folder: str, listed: set[str]) -> bool:
    """Say whether *folder* is one and every file in it is *listed*, or the bytecode of one that is."""
    return root.kind(folder) == "folder" and all(
        path in listed or root.kind(path) == "folder" or _source(path) in listed for path in root.walk(folder)
    )


def _source(path: str) -> str:
    """The source of the bytecode *path*; nothing for another file."""
    match = re.fullmatch(r"(.*/)?__pycache__/([^/]+?)\.[^/.]+(?:\.opt-[12])?\.pyc", path)
    return f"{match[1] or ''}{match[2]}.py" if match else ""
