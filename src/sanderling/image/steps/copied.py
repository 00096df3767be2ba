"""COPY and ADD: which entries a layer gets of the files that were picked.

Source: Docker's Dockerfile reference, "COPY", "ADD". Modes are 0644 and 0755 (a program), for
others differ from one checkout to the next; --chmod sets them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from sanderling.dockerfile import Copy
from sanderling.errors import Invalid
from sanderling.image.layers.tree import Entry
from sanderling.image.steps.archives import archive_entries
from sanderling.image.steps.context import Picked
from sanderling.image.steps.image_tree import ImageTree


def copied(
    step: Copy,
    picked: Sequence[Picked],
    contents: Mapping[str, Entry],
    tree: ImageTree,
    owner: tuple[int, int] | None,
    held: ExitStack,
) -> list[Entry]:
    """The entries of the layer of *step*, folders included; *contents* are the files by their paths in the context.

    They can be read until *held* is closed. Raises DockerfileInvalid with the line.
    """
    uid, gid = owner or (0, 0)
    try:
        entries: dict[str, Entry] = {}
        for entry in _entries(step, picked, contents, tree, owner, held):
            place = _place(entry.path, tree)
            for folder in tree.folders(place, uid, gid):
                entries.setdefault(folder.path, folder)
            if entry.kind != "folder":
                if tree.kind(place) == "folder":
                    raise Invalid(f"/{place} is a folder, and a file cannot take its place")
                entries[place] = replace(entry, path=place)
            elif place and tree.kind(place) == "":
                entries[place] = replace(entry, path=place)
        for path in entries:
            parent = path.rpartition("/")[0]
            if parent and entries[parent].kind != "folder":
                raise Invalid(f"/{parent} is no folder, and something is to be in it")
        return list(entries.values())
    except Invalid as e:
        raise step.at.refuse(f"{step.at.name}: {e.message}") from e


def _place(path: str, tree: ImageTree) -> str:
    """Where the entry *path* goes: links in its folders are followed, and it takes the place of a link to a file."""
    parent, slash, name = path.rpartition("/")
    real = tree.place(parent) if parent else ""
    place = f"{real}/{name}" if real else name
    return tree.place(path) if slash and tree.kind(place) == "folder" else place


def _entries(
    step: Copy,
    picked: Sequence[Picked],
    contents: Mapping[str, Entry],
    tree: ImageTree,
    owner: tuple[int, int] | None,
    held: ExitStack,
) -> Iterator[Entry]:
    uid, gid = owner or (0, 0)
    is_folder = step.is_folder or tree.kind(step.target) == "folder" or step.target == ""
    for one in picked:
        if one.is_folder:
            for place, source in one.files:
                # Folders in the folder are its own, and have its mode.
                parts = place.split("/")[:-1]
                for count in range(1, len(parts) + 1):
                    path = _join(step.target, "/".join(parts[:count]))
                    yield Entry(path, "folder", step.chmod or 0o755, owner=uid, group=gid)
                yield _changed(contents[source.path], _join(step.target, place), step, uid, gid)
            continue
        content = contents[one.path]
        unpacked = archive_entries(content, step.target, owner, held) if step.unpacks else None
        if unpacked is not None:
            yield from unpacked
        else:
            target = _join(step.target, one.name) if is_folder else step.target
            yield _changed(content, target, step, uid, gid)


def _changed(entry: Entry, path: str, step: Copy, uid: int, gid: int) -> Entry:
    mode = entry.mode if step.chmod is None else step.chmod
    return replace(entry, path=path, mode=mode, owner=uid, group=gid)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
