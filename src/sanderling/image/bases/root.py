"""The files of an image's layers seen as one tree, without unpacking them: names, links, and the few contents wanted.

As an engine would unpack them: a later layer wins, whiteouts take away what is
below, a path leads through the symbolic links of the tree and never out of it.

Source: image-spec 1.1, "Image Layer Filesystem Changeset".
"""

import posixpath
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from sanderling.errors import Invalid

MAX_LINKS = 40
MAX_ENTRIES = 2_000_000
MAX_CONTENT_BYTES = 4 << 20
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"

Wanted = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Node:
    """One path: "file", "folder", "link" or "other". *content* is that of a file that was wanted."""

    kind: str
    target: str = ""
    mode: int = 0
    owner: int = 0
    group: int = 0
    content: bytes | None = None


class Root:
    """The tree so far; paths have no slash at their ends, the root is ""."""

    def __init__(self, wanted: Wanted) -> None:
        """*wanted* says of which files, by path, the content is kept (its first 4 MiB)."""
        self._wanted = wanted
        self._nodes: dict[str, Node] = {"": Node("folder")}
        self._children: dict[str, set[str]] = {"": set()}

    def add_layer(self, tar: tarfile.TarFile) -> None:
        """Put a layer on top. Raises Invalid for one that no engine should unpack."""
        added: set[str] = set()
        for member in tar:
            if len(self._nodes) > MAX_ENTRIES:
                raise Invalid(f"it has more than {MAX_ENTRIES} files")
            path = _plain(member.name)
            if path == "":
                continue
            parent, _, name = path.rpartition("/")
            place = self._real_folder(parent)
            if name == _OPAQUE:
                for child in [c for c in self._children.get(place, ()) if _join(place, c) not in added]:
                    self._remove_older(_join(place, child), added)
            elif name.startswith(_WHITEOUT):
                self._remove_older(_join(place, name.removeprefix(_WHITEOUT)), added)
            else:
                self._put(_join(place, name), self._node(tar, member, _join(place, name)), added)

    def add(self, path: str, node: Node) -> None:
        """Put *node* at *path*, as a layer with it alone would; missing folders are made."""
        parent, _, name = path.rpartition("/")
        self._put(_join(self._real_folder(parent), name), node, set())

    def find(self, path: str) -> Node | None:
        """What is at *path*, links followed; None when that is nothing."""
        return self._nodes.get(self.resolve(path) or "/")

    def resolve(self, path: str) -> str | None:
        """The path that *path* leads to when its links are followed; None when there is nothing, or a loop."""
        return self._follow(path, last=True)

    def list(self, path: str) -> list[str]:
        """The names in the folder *path*, sorted; none when it is no folder."""
        place = self.resolve(path)
        return sorted(self._children.get(place, ())) if place is not None else []

    def kind(self, path: str) -> str:
        """What is at *path* itself, a link not followed; nothing when it is not there."""
        node = self._nodes.get(path)
        return node.kind if node is not None else ""

    def walk(self, path: str) -> Iterator[str]:
        """Every path below the folder *path*, which is not a link, links not followed."""
        for name in sorted(self._children.get(path, ())):
            inner = _join(path, name)
            yield inner
            yield from self.walk(inner)

    def _follow(self, path: str, *, last: bool) -> str | None:
        todo = [part for part in path.split("/") if part]
        place, links = "", 0
        while todo:
            part = todo.pop(0)
            if part == ".":
                continue
            if part == "..":
                place = place.rpartition("/")[0]
                continue
            here = _join(place, part)
            node = self._nodes.get(here)
            if node is None:
                return None
            if node.kind == "link" and (todo or last):
                links += 1
                if links > MAX_LINKS:
                    return None
                todo = [p for p in node.target.split("/") if p] + todo
                if node.target.startswith("/"):
                    place = ""
                continue
            place = here
        return place

    def _real_folder(self, path: str) -> str:
        """Where the folder *path* really is; it is made when it is not there."""
        if self._nodes.get(path) is not None and self._nodes[path].kind == "folder":
            found: str | None = path
        else:
            found = self._follow(path, last=True)
        if found is not None and self._nodes[found].kind == "folder":
            return found
        place = ""
        for part in path.split("/"):
            here = _join(place, part)
            real = self._follow(here, last=True)
            if real is None or self._nodes[real].kind != "folder":
                self._put(here, Node("folder", mode=0o755), set())
                real = here
            place = real
        return place

    def _node(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Node:
        if member.isdir():
            return Node("folder", mode=member.mode, owner=member.uid, group=member.gid)
        if member.issym():
            return Node("link", target=member.linkname)
        if member.islnk():
            original = self._nodes.get(self._follow(_plain(member.linkname), last=False) or "/")
            return replace(original) if original is not None else Node("file", mode=member.mode)
        if not member.isfile():
            return Node("other")
        if not self._wanted(path):
            return Node("file", mode=member.mode)
        file = tar.extractfile(member)
        return Node("file", mode=member.mode, content=file.read(MAX_CONTENT_BYTES) if file else b"")

    def _put(self, path: str, node: Node, added: set[str]) -> None:
        present = self._nodes.get(path)
        if present is not None and present.kind == "folder" and node.kind != "folder":
            self._remove(path)
        self._nodes[path] = node
        if node.kind == "folder":
            self._children.setdefault(path, set())
        parent, _, name = path.rpartition("/")
        self._children.setdefault(parent, set()).add(name)
        while path and path not in added:
            added.add(path)
            path = path.rpartition("/")[0]

    def _remove_older(self, path: str, added: set[str]) -> None:
        """Remove *path* with all below it, save what this layer brought itself."""
        if path not in added:
            self._remove(path)
            return
        for name in list(self._children.get(path, ())):
            self._remove_older(_join(path, name), added)

    def _remove(self, path: str) -> None:
        todo = [path]
        while todo:
            here = todo.pop()
            todo += [_join(here, name) for name in self._children.pop(here, ())]
            self._nodes.pop(here, None)
        parent, _, name = path.rpartition("/")
        self._children.get(parent, set()).discard(name)


def _plain(name: str) -> str:
    path = posixpath.normpath("/" + name).lstrip("/") if name not in ("", ".", "./") else ""
    if ".." in name.split("/"):
        raise Invalid(f"its path {name[:200]!r} leads outside")
    return path


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
