"""Each order of the steps of an upload and of a removal of the same bytes: see `space.removals`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.registry.space.stepping import SteppingBlobs, Steps
from tests.registry.space.world import DAY
from tests.registry.world import Clock, make_engine

from sanderling.blobs import FileBlobs
from sanderling.errors import SanderlingError, Unavailable
from sanderling.oci import Digest
from sanderling.registry.content.content import Content
from sanderling.registry.errors import BlobBeingRemoved
from sanderling.registry.space import links
from sanderling.registry.space.links import BlobLinks
from sanderling.registry.space.removals import STALE_CLAIM_S, Removals
from sanderling.registry.space.space import Space

CONTENT = b"the bytes in question"
DIGEST = Digest.of(CONTENT)
REPOSITORY = "demo/digits"


class World:
    """One registry, its store step by step, and time."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.engine: Engine = make_engine(folder / "db")
        self.files = FileBlobs(folder / "blobs", self.clock)
        self.blobs = SteppingBlobs(self.files)
        self.content = Content(self.engine, self.clock)
        self.links = BlobLinks(self.content, self.blobs, self.clock)
        self.space = Space(self.engine, self.blobs, clock=self.clock)
        self.other_server = Space(self.engine, self.blobs, clock=self.clock)
        self.loop = asyncio.new_event_loop()
        self.steps = Steps(self.loop, self.blobs)

    def begin_upload(self) -> str:
        async def begin() -> str:
            upload_id = await self.files.begin_upload()

            async def pieces() -> AsyncIterator[bytes]:
                yield CONTENT

            await self.files.append(upload_id, 0, pieces())
            return upload_id

        upload_id = self.loop.run_until_complete(begin())
        self.content.add_upload(upload_id, REPOSITORY)
        return upload_id

    def upload(self) -> "asyncio.Task[object]":
        """Begin U1 and U2."""
        return self.steps.start(self.links.commit(REPOSITORY, self.begin_upload(), DIGEST))

    def collect(self, space: Space | None = None) -> "asyncio.Task[object]":
        """Begin C1 to C3."""
        return self.steps.start((space or self.space).collect())

    def is_linked(self) -> bool:
        """Whether the repository has the blob; then its bytes must be there."""
        found = self.content.find_blob(REPOSITORY, DIGEST) is not None
        if found:
            assert self.files.find(DIGEST) is not None, "a link without bytes"
        return found

    def close(self) -> None:
        self.steps.finish()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.engine.dispose()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(links, "_POLL_S", 0.0)
    world = World(tmp_path)
    world.files.put(CONTENT)
    world.clock.now += 2 * DAY  # old bytes that nothing links
    yield world
    world.close()


def outcome(task: "asyncio.Task[object]") -> type[BaseException] | None:
    assert task.done()
    error = task.exception()
    return None if error is None else type(error)


def test_an_upload_that_links_before_the_claim_keeps_the_bytes(world: World) -> None:
    collection = world.collect()  # it has listed the blob as garbage, and has not claimed it
    assert [gate.name for gate in world.blobs.gates] == ["listed"]
    upload = world.upload()
    world.steps.open(name="commit")
    world.steps.open(name="committed")
    assert outcome(upload) is None
    assert world.is_linked()
    world.steps.open(name="listed")
    assert outcome(collection) is None
    assert world.is_linked()


def test_an_upload_that_meets_the_claim_waits_and_links_what_it_committed_after_the_removal(world: World) -> None:
    collection = world.collect()
    upload = world.upload()
    world.steps.open(name="listed")
    world.steps.open(name="look")
    world.steps.open(name="remove")
    assert world.files.find(DIGEST) is None
    world.steps.open(name="commit")
    world.steps.open(name="committed")  # U2 meets the claim, and polls
    assert not upload.done()
    assert not world.is_linked()
    world.steps.finish()
    assert (outcome(upload), outcome(collection)) == (None, None)
    assert world.is_linked()


def test_an_upload_between_the_look_and_the_removal_is_refused_and_not_linked_to_nothing(world: World) -> None:
    collection = world.collect()
    upload = world.upload()
    world.steps.open(name="listed")
    world.steps.open(name="look")
    world.steps.open(name="commit")  # U1 between the two steps of C2
    world.steps.open(name="remove")  # the bytes of U1 are gone
    world.steps.finish()
    assert outcome(collection) is None
    assert outcome(upload) is BlobBeingRemoved
    assert not world.is_linked()
    world.blobs.is_stepping = False
    again = world.upload()
    world.steps.finish()
    assert outcome(again) is None
    assert world.is_linked()


def test_a_removal_that_ended_before_the_link_is_noticed_too(world: World) -> None:
    collection = world.collect()
    upload = world.upload()
    for name in ("listed", "look", "commit", "remove", "removed"):
        world.steps.open(name=name)
    assert outcome(collection) is None
    world.steps.open(name="committed")
    world.steps.open(name="stat")
    assert outcome(upload) is BlobBeingRemoved
    assert not world.is_linked()


def test_a_commit_before_the_look_is_seen_and_nothing_is_removed(world: World) -> None:
    collection = world.collect()
    upload = world.upload()
    world.steps.open(name="listed")
    world.steps.open(name="commit")
    world.steps.open(name="look")
    assert outcome(collection) is None
    world.steps.open(name="committed")
    assert outcome(upload) is None
    assert world.is_linked()


def test_two_servers_never_remove_the_same_bytes(world: World) -> None:
    first, second = world.collect(), world.collect(world.other_server)
    world.steps.open(0, "listed")
    world.steps.open(0, "listed")
    assert [gate.name for gate in world.blobs.gates] == ["look"]  # the second has claimed nothing
    assert outcome(second) is None
    world.steps.finish()
    assert outcome(first) is None
    assert world.files.find(DIGEST) is None


def test_a_claim_of_a_killed_server_holds_uploads_up_for_two_minutes_at_most(world: World) -> None:
    assert Removals(world.engine, world.clock).claim([DIGEST]) == [DIGEST]  # and the server is gone
    upload = world.upload()
    world.steps.open(name="commit")
    world.steps.open(name="committed")
    assert not upload.done()
    world.clock.now += 11  # the upload has waited long enough
    world.steps.finish()
    assert outcome(upload) is BlobBeingRemoved
    world.clock.now += STALE_CLAIM_S
    upload = world.upload()
    world.steps.finish()
    assert outcome(upload) is None
    assert world.is_linked()


def test_the_next_collection_takes_up_the_claim_of_a_killed_server(world: World) -> None:
    Removals(world.engine, world.clock).claim([DIGEST])
    world.collect()
    world.steps.finish()
    assert world.files.find(DIGEST) is not None  # the other may be at work
    world.clock.now += STALE_CLAIM_S + 1
    world.collect()
    world.steps.finish()
    assert world.files.find(DIGEST) is None


def test_an_upload_that_slept_half_the_grace_time_is_refused(world: World) -> None:
    upload = world.upload()
    world.steps.open(name="commit")
    world.clock.now += DAY / 2 + 1
    world.steps.open(name="committed")
    assert outcome(upload) is Unavailable
    assert not world.is_linked()


def test_a_mount_finds_the_link_or_it_is_too_late(world: World) -> None:
    world.content.link_blob(REPOSITORY, world.files.find(DIGEST))  # type: ignore[arg-type]
    assert Removals(world.engine, world.clock).claim([DIGEST]) == []
    assert world.content.mount_blob("demo/other", REPOSITORY, DIGEST) is not None
    for repository in ("demo/other", REPOSITORY):
        world.content.unlink_blob(repository, DIGEST)
    assert Removals(world.engine, world.clock).claim([DIGEST]) == [DIGEST]
    assert world.content.mount_blob("demo/other", REPOSITORY, DIGEST) is None
    with pytest.raises(BlobBeingRemoved) as refused:
        world.content.link_blob(REPOSITORY, world.files.find(DIGEST))  # type: ignore[arg-type]
    assert isinstance(refused.value, SanderlingError)
    assert "send it again" in refused.value.message
