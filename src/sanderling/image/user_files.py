"""The user's own files on their way into a layer: hashed, then read again, and the same both times.

- They may be larger than the memory: a piece at a time.
- Whoever stops the build need not wait for the end of a large one.
- A file that changes meanwhile gives no layer: its name would be that of other bytes.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sanderling.errors import Invalid
from sanderling.image.layers.layer_file import FileChanged
from sanderling.image.layers.tree import Entry, Member, file_entry
from sanderling.image.recipe import SourceFile

_PIECE_BYTES = 1 << 20
Check = Callable[[], None]


class UserFiles:
    """*files* as they are now. *check* is called for every piece that is read, and raises to stop.

    Raises Invalid for a file that cannot be read.
    """

    def __init__(self, files: Sequence[SourceFile], check: Check) -> None:
        self._check = check
        self._states = {file.source: _state(file.source) for file in files}
        self._files = [(file, hash_file(file.source, check)) for file in files]

    @property
    def inputs(self) -> list[tuple[str, str, bool]]:
        """What a layer of these files depends on: each path, sha256, and whether it is a program."""
        return [(file.path, sha256, file.executable) for file, sha256 in self._files]

    @contextmanager
    def opened(self) -> Iterator[list[Entry]]:
        """The entries of the layer; at the end the files must be as they were. Raises FileChanged, Invalid."""
        try:
            yield [self._entry(file, sha256) for file, sha256 in self._files]
        except OSError as e:
            raise Invalid(f"a file of the image cannot be read any more: {e}") from e
        for source, state in self._states.items():
            if _state(source) != state:
                raise FileChanged(source.name)

    def _entry(self, file: SourceFile, sha256: str) -> Entry:
        # Four bytes of the hash tell files apart as well as a checksum does.
        size = self._states[file.source][1]
        content = Member(partial(_Reader, file.source, self._check), size, int(sha256[:8], 16))
        return file_entry(file.path, content, executable=file.executable)


class _Reader(io.FileIO):
    def __init__(self, path: Path, check: Check) -> None:
        super().__init__(path, "r")
        self._check = check

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(-1 if size is None else size) or b""


def hash_file(path: Path, check: Check = lambda: None) -> str:
    """The sha256 of the file *path*, in hex. Raises Invalid when it cannot be read."""
    hasher = hashlib.sha256()
    try:
        with _Reader(path, check) as file:
            while piece := file.read(_PIECE_BYTES):
                hasher.update(piece)
    except OSError as e:
        raise Invalid(f"{path.name} cannot be read: {e.strerror}") from e
    return hasher.hexdigest()


def _state(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as e:
        raise Invalid(f"{path.name} cannot be read: {e.strerror}") from e
    return found.st_ino, found.st_size, found.st_mtime_ns
