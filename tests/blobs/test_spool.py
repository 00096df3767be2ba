"""What comes in goes out, whoever is slower."""

import asyncio
from pathlib import Path

import pytest

from sanderling.blobs.spool import Spool, SpoolClosed

pytestmark = pytest.mark.anyio

RING = 1 << 20
CONTENT = bytes(range(251)) * 20_000  # 5 MB: several times round the ring


async def write(spool: Spool, content: bytes, size: int, pause: bool = False) -> None:
    for start in range(0, len(content), size):
        await spool.write(content[start : start + size])
        if pause:
            await asyncio.sleep(0)
    await spool.end()


async def read(spool: Spool, size: int, pause: bool = False) -> bytes:
    found = []
    while piece := await spool.read(size, lambda: False):
        found.append(piece)
        if pause:
            await asyncio.sleep(0.001)
    return b"".join(found)


@pytest.mark.parametrize("written", [1_000, 65_536, 3_000_000])
@pytest.mark.parametrize("read_at_once", [10_007, 1 << 20])
@pytest.mark.parametrize("slow", ["writer", "reader", "none"])
async def test_all_comes_out_in_its_order(tmp_path: Path, written: int, read_at_once: int, slow: str) -> None:
    with Spool(tmp_path, RING) as spool:
        _, found = await asyncio.gather(
            write(spool, CONTENT, written, slow == "writer"), read(spool, read_at_once, slow == "reader")
        )
    assert found == CONTENT


async def test_a_writer_waits_while_the_ring_is_full(tmp_path: Path) -> None:
    with Spool(tmp_path, RING) as spool:
        writing = asyncio.create_task(write(spool, CONTENT, 65_536))
        assert await spool.gather(RING)
        await asyncio.sleep(0.05)
        assert spool.waiting == RING
        assert not writing.done()
        assert await read(spool, RING) == CONTENT
        await writing


async def test_a_writer_that_nobody_reads_from_is_told(tmp_path: Path) -> None:
    with Spool(tmp_path, RING) as spool:
        writing = asyncio.create_task(write(spool, CONTENT, 65_536))
        await spool.gather(RING)
        spool.close()
        with pytest.raises(SpoolClosed):
            await writing


async def test_a_reader_gives_way_only_when_there_is_nothing_to_read(tmp_path: Path) -> None:
    with Spool(tmp_path, RING) as spool:
        await spool.write(bytes(300_000))
        assert len(await spool.read(RING, lambda: True)) == 300_000
        assert await spool.read(RING, lambda: True) == b""
        await spool.end()
        assert not await spool.gather(1)


async def test_gathering_ends_with_what_there_is(tmp_path: Path) -> None:
    with Spool(tmp_path, RING) as spool:
        await write(spool, b"little", 6)
        assert await spool.gather(RING)
        assert spool.waiting == 6
