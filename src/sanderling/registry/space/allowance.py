"""How much of a body may come in before the workspace's quota ends."""

from collections.abc import AsyncGenerator, AsyncIterable, Sequence

from sanderling.blobs import UploadWriter
from sanderling.registry.space.quota import exceeded


class Allowance:
    """Counts the bytes of one upload, which has *start* of them. *room* is as `quota.find_room` gives it."""

    def __init__(self, repository: str, room: tuple[int, int], start: int) -> None:
        self._repository, self._room, self._size = repository, room, start

    def check(self, count: int) -> None:
        """Raise `QuotaExceeded` unless *count* bytes more have room."""
        if self._size + count > self._room[0]:
            raise exceeded(self._repository, self._room)

    def take(self, count: int) -> None:
        """Count bytes that came; raise `QuotaExceeded`."""
        self.check(count)
        self._size += count

    async def pieces(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield *pieces*, counted."""
        async for piece in pieces:
            self.take(len(piece))
            yield piece

    def writer(self, writer: UploadWriter) -> UploadWriter:
        """Return *writer*, counted."""
        return _CountedWriter(self, writer)


class _CountedWriter:
    def __init__(self, allowance: Allowance, writer: UploadWriter) -> None:
        self._allowance, self._writer = allowance, writer

    @property
    def offset(self) -> int:
        return self._writer.offset

    def write(self, pieces: Sequence[bytes]) -> None:
        self._allowance.take(sum(map(len, pieces)))
        self._writer.write(pieces)

    def room(self) -> memoryview:
        return self._writer.room()

    def filled(self, count: int) -> None:
        self._allowance.take(count)
        self._writer.filled(count)
