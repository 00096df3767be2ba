"""The files that came with an environment file and that it may name by path; no other is read."""

import posixpath
from collections.abc import Mapping
from pathlib import Path


class GivenFiles:
    """Finds files by the paths that a line of another file uses."""

    def __init__(self, files: Mapping[str, Path] | None = None) -> None:
        self._files = {_plain(path): source for path, source in (files or {}).items()}

    def find(self, path: str, beside: str = "") -> tuple[str, Path] | None:
        """The name and the place of the file that *path*, written in the file *beside*, means.

        A path that is the same, seen from that file's folder or not, counts
        first; then a file name that only one file has, for paths change when
        files are sent.
        """
        wanted = _plain(path)
        for candidate in (_plain(posixpath.join(posixpath.dirname(_plain(beside)), wanted)), wanted):
            if candidate in self._files:
                return candidate, self._files[candidate]
        same = [name for name in self._files if posixpath.basename(name) == posixpath.basename(wanted)]
        return (same[0], self._files[same[0]]) if len(same) == 1 else None

    def names(self) -> str:
        """What there is, for messages."""
        return ", ".join(sorted(self._files)) or "none"


def _plain(path: str) -> str:
    return posixpath.normpath(path.strip().replace("\\", "/"))
