"""The files below the next step: where a path really is, and what its folders are like.

A layer that names a folder gives it another mode, and one that names a link makes a
folder of it. So a step's layer says of each folder above its files what it is already.
It is looked up only when a layer is really made.
"""

import tarfile
import zlib
from collections.abc import Sequence

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid
from sanderling.image.bases.oci_base import unpacking
from sanderling.image.bases.pythons import find_user
from sanderling.image.bases.root import Node, Root
from sanderling.image.layers.layer_file import Layer
from sanderling.image.layers.store import Made
from sanderling.image.layers.tree import Entry
from sanderling.oci import media_types

_ACCOUNTS = ("etc/passwd", "etc/group")


class ImageTree:
    """The tree of the layers *below*, of which those in *read* are read; of the others the list of files will do."""

    def __init__(self, below: Sequence[Made], read: Sequence[Layer], blobs: FileBlobs) -> None:
        self._waiting: list[Made | Layer] = [
            made.layer if any(made.layer is one for one in read) else made for made in below
        ]
        self._blobs = blobs
        self._root = Root(lambda path: path in _ACCOUNTS)

    def add(self, layer: Layer) -> None:
        """Put *layer* on top."""
        self._waiting.append(layer)

    @property
    def root(self) -> Root:
        """The tree as it is now."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if isinstance(one, Layer):
                self._read(one)
            else:
                self._list(one)
        return self._root

    def place(self, path: str) -> str:
        """Where *path* really is, links followed as far as it is there. Raises Invalid."""
        place = ""
        for part in path.split("/"):
            here = f"{place}/{part}" if place else part
            kind = self.root.kind(here)
            found = self.root.resolve(here)
            if kind == "link" and found is None:
                raise Invalid(f"/{here} is a link to nothing")
            place = here if found is None else found
        return place

    def kind(self, path: str) -> str:
        """What is at *path*, links followed: folder, file, other; nothing when it is not there."""
        node = self.root.find(path) if path else Node("folder")
        return node.kind if node is not None else ""

    def folders(self, path: str, owner: int, group: int) -> list[Entry]:
        """Entries for the folders above *path* (a real place): as they are, or new ones of *owner*. Raises Invalid."""
        entries = []
        parts = path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            here = "/".join(parts[:count])
            node = self.root.find(here)
            if node is None:
                entries.append(Entry(here, "folder", 0o755, owner=owner, group=group))
            elif node.kind == "folder":
                entries.append(Entry(here, "folder", node.mode & 0o7777, owner=node.owner, group=node.group))
            else:
                raise Invalid(f"/{here} is no folder")
        return entries

    def user(self, text: str) -> tuple[int, int | None] | None:
        """The numbers of *text* ("app", "app:web", "1000:1000"); None when the image has no such user or group.

        The group is None when only a number is given, and no account says more.
        """
        name, _, group = text.partition(":")
        if name in ("root", "0"):
            if group in ("", "root", "0"):
                return 0, 0
            numbers = find_user(self.root, f"1:{group}").split(":")
            return (0, int(numbers[1])) if numbers[-1].isdecimal() else None
        numbers = find_user(self.root, text).split(":")
        if not all(number.isascii() and number.isdecimal() and len(number) < 10 for number in numbers):
            return None
        return int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else None

    def _read(self, layer: Layer) -> None:
        try:
            with (
                self._blobs.path(layer.digest).open("rb") as file,
                unpacking(file, media_types.LAYER_COMPRESSION[layer.media_type]) as plain,
                tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 18) as tar,
            ):
                self._root.add_layer(tar)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as e:
            raise Invalid(f"the layer '{layer.title}' ({layer.digest}) is broken: {e}") from e

    def _list(self, made: Made) -> None:
        for path, fingerprint in made.files.items():
            kind, _, rest = fingerprint.partition(":")
            if not path.rpartition("/")[2].startswith(".wh."):
                target = rest.split(":", 2)[2] if kind == "link" else ""
                self._root.add(path, Node("link" if kind == "link" else "file", target=target, mode=0o644))
