"""The event stream keeps what it said it keeps, once, in order."""

import asyncio
import threading

import pytest
from sqlalchemy import Engine, text

from sanderling.errors import Unavailable
from sanderling.hub import Hub, events
from sanderling.iot import Message
from tests.hub.world import Clock

pytestmark = pytest.mark.anyio


def message(body: str, *, device: str = "d1", module: str | None = None, delivery: str | None = None) -> Message:
    return Message(body.encode(), device, module, delivery_id=delivery, properties={"n": None})


async def test_readers_keep_their_own_place(hub: Hub) -> None:
    await asyncio.gather(*(hub.events.append(message(str(n))) for n in range(20)))
    first = hub.events.read(0, limit=15)
    rest = hub.events.read(first[-1].sequence, limit=15)
    assert [e.message.body for e in first + rest] == [str(n).encode() for n in range(20)]
    assert [e.sequence for e in first + rest] == list(range(1, 21))
    assert hub.events.last_sequence() == 20
    assert first[0].message.properties == {"n": None}


async def test_readers_choose_a_device_or_module(hub: Hub) -> None:
    for each in (message("a"), message("b", module="m"), message("c", device="d2", module="m")):
        await hub.events.append(each)
    assert [e.message.body for e in hub.events.read(0, device_id="d1")] == [b"a", b"b"]
    assert [e.message.body for e in hub.events.read(0, device_id="d1", module_id="m")] == [b"b"]
    assert hub.events.read(0, device_id="d3") == []


async def test_a_repeated_delivery_is_stored_once_in_one_batch_or_in_two(hub: Hub) -> None:
    await asyncio.gather(*(hub.events.append(message("x", delivery="one")) for _ in range(5)))
    await hub.events.append(message("x", delivery="one"))
    await hub.events.append(message("y", device="d2", delivery="one"))
    assert len(hub.events.read(0)) == 2
    assert hub.events.read(0)[0].message.delivery_id is None  # readers are not shown it


async def test_a_waiting_reader_wakes_up(hub: Hub) -> None:
    waiting = asyncio.create_task(hub.events.wait(0, timeout_s=10, device_id="d1"))
    await asyncio.sleep(0.05)
    await hub.events.append(message("other", device="d2"))
    await hub.events.append(message("mine"))
    assert [e.message.body for e in await waiting] == [b"mine"]


async def test_waiting_ends_in_time(hub: Hub) -> None:
    assert await hub.events.wait(0, timeout_s=0.05) == []
    assert await hub.events.wait(0, timeout_s=0) == []


async def test_threads_may_append(hub: Hub) -> None:
    def append() -> None:
        for n in range(50):
            hub.events.append_soon(message(str(n))).result(10)

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert hub.events.last_sequence() == 200


async def test_a_broken_database_is_told(hub: Hub, engine: Engine) -> None:
    with engine.begin() as db:
        db.execute(text("ALTER TABLE hub_events RENAME TO gone"))
    with pytest.raises(Unavailable):
        await hub.events.append(message("x"))
    with engine.begin() as db:
        db.execute(text("ALTER TABLE gone RENAME TO hub_events"))
    await hub.events.append(message("y"))
    assert len(hub.events.read(0)) == 1


async def test_too_many_waiting_messages_are_refused(hub: Hub, engine: Engine) -> None:
    with engine.begin():  # holds the writer's lock
        futures = [hub.events.append_soon(message(str(n))) for n in range(5000)]
        with pytest.raises(Unavailable):
            futures += [hub.events.append_soon(message(str(n))) for n in range(300)]
    for future in futures:
        await asyncio.wrap_future(future)


async def test_a_sequence_never_returns(hub: Hub, engine: Engine) -> None:
    await hub.events.append(message("a"))
    with engine.begin() as db:
        db.execute(text("DELETE FROM hub_events"))
    await hub.events.append(message("b"))
    assert hub.events.read(0)[0].sequence == 2


async def test_old_messages_are_deleted_and_new_ones_stay(hub: Hub, clock: Clock) -> None:
    await hub.events.append(message("old"))
    clock.now += 8 * 24 * 3600
    await hub.events.append(message("new"))
    assert [e.message.body for e in hub.events.read(0)] == [b"new"]


async def test_messages_that_wait_are_bounded_by_their_bytes(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MAX_PENDING_BYTES", 1000)
    may_go_on = threading.Event()
    hub.events._writer.submit(may_go_on.wait)
    first = [hub.events.append_soon(message("x" * 600)) for _ in range(2)]
    with pytest.raises(Unavailable):
        hub.events.append_soon(message("x"))
    may_go_on.set()
    await asyncio.gather(*(asyncio.wrap_future(future) for future in first))
    await hub.events.append(message("there is room again"))
    assert len(hub.events.read(0)) == 3


async def test_a_message_that_cannot_be_stored_keeps_nobody_waiting(hub: Hub) -> None:
    # No error of the database: the driver refuses the text before it gets there.
    with pytest.raises(Unavailable):
        async with asyncio.timeout(5):
            await hub.events.append(message("x", module="\ud800"))
    await hub.events.append(message("next"))
    assert [event.message.body for event in hub.events.read(0)] == [b"next"]
