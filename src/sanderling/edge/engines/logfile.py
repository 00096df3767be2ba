"""A bounded log of what a module writes: the current file and one before it."""

from pathlib import Path


class BoundedLog:
    """Appends to `log` in *folder*; at *max_bytes* it becomes `log.1` and a new one begins."""

    def __init__(self, folder: Path, max_bytes: int = 5 * 1024 * 1024) -> None:
        self._path = folder / "log"
        self._older = folder / "log.1"
        self._max_bytes = max_bytes
        self._file = self._path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append *data*."""
        for start in range(0, len(data), self._max_bytes):
            piece = data[start : start + self._max_bytes]
            if self._file.tell() + len(piece) > self._max_bytes:
                self._file.close()
                self._path.replace(self._older)
                self._file = self._path.open("ab", buffering=0)
            self._file.write(piece)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def tail(folder: Path, size_bytes: int) -> bytes:
    """Return the last *size_bytes* of the log in *folder*; empty when there is none."""
    pieces: list[bytes] = []
    left = size_bytes
    for name in ("log", "log.1"):
        if left <= 0:
            break
        try:
            with (folder / name).open("rb") as file:
                length = file.seek(0, 2)
                file.seek(max(0, length - left))
                piece = file.read(left)
        except FileNotFoundError:
            continue
        pieces.insert(0, piece)
        left -= len(piece)
    return b"".join(pieces)
