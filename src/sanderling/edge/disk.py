"""Durable writes: a file is whole or not there, at any line we may be killed at."""

import json
import logging
from pathlib import Path
from typing import Any

from sanderling import durable
from sanderling.errors import Unavailable

_log = logging.getLogger(__name__)


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put *data* at *path*, whole and on the disk.

    Raises `Unavailable` when the disk does not take it; then the old file stays.
    """
    try:
        durable.write_durably(path, data, mode)
    except OSError as e:
        raise Unavailable(f"{path} cannot be written: {e.strerror or e}") from e


def write_json(path: Path, value: object, mode: int = 0o600) -> None:
    """Write *value* durably as JSON."""
    write_durably(path, json.dumps(value, sort_keys=True, indent=1).encode(), mode)


def find_json(path: Path) -> Any | None:
    """Return the JSON at *path*, or None when it is not there or not readable as JSON.

    A broken file is logged and treated as absent: all JSON here is a cache, or
    is written anew by the next sync.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        _log.warning("%s cannot be read and is taken as absent: %s", path, e)
        return None


def private_folder(path: Path) -> Path:
    """Make *path* a folder that its owner alone can read, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
