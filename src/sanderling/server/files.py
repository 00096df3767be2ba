"""Small files that must be whole and private: written beside, synced, then renamed."""

import os
import tempfile
from pathlib import Path


def ensure_private_folder(folder: Path) -> None:
    """Make *folder* and its parents; *folder* itself can be entered by its owner alone."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_durably(path: Path, content: bytes, mode: int) -> None:
    """Put *content* at *path* in one step: a reader sees the old file or the new one, never a part.

    The bytes are on the disk when this returns. The file is never readable by more than *mode* says.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
