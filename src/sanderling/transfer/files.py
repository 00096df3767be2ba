"""Read files without holding up the loop."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from sanderling.errors import Unavailable

PIECE_BYTES = 1 << 20


async def read_file(path: Path, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
    """Yield *length* bytes of the file from *start*, or all that come. Raises Unavailable when it cannot be read."""
    left = length
    try:
        file = await asyncio.to_thread(path.open, "rb")
        with file:
            file.seek(start)
            while left is None or left > 0:
                piece = await asyncio.to_thread(file.read, PIECE_BYTES if left is None else min(PIECE_BYTES, left))
                if not piece:
                    return
                if left is not None:
                    left -= len(piece)
                yield piece
    except OSError as e:
        raise Unavailable(f"{path} cannot be read: {e.strerror or e}") from e
