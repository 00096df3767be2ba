"""Pushes, looks, deletes, collections of two servers and rules, interleaved step by step.

Promised: a link always has its bytes; a manifest that was accepted is whole until a client deletes it, or a
rule does, whole; and who was told that a blob is here can name it in a manifest half the grace time later.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select
from tests.registry.space.stepping import SteppingBlobs, Steps
from tests.registry.space.world import DAY, HOUR
from tests.registry.world import Clock, make_engine

from sanderling.blobs import BlobInfo, BlobNotFound, FileBlobs
from sanderling.errors import SanderlingError
from sanderling.oci import Descriptor, Digest, Manifest, media_types
from sanderling.registry import tables
from sanderling.registry.content.content import Content
from sanderling.registry.errors import ManifestNotFound, MissingReference
from sanderling.registry.space import links
from sanderling.registry.space.links import BlobLinks
from sanderling.registry.space.removals import Removals
from sanderling.registry.space.rules import Rule
from sanderling.registry.space.space import Space

EXAMPLES = int(os.environ.get("SPACE_EXAMPLES", "12"))
REPOSITORIES = st.sampled_from(["demo/a", "demo/b"])
CONTENTS = st.sampled_from([b"zero", b"one", b"two"])
NUMBERS = st.integers(0, 5)


def image(config: bytes, layer: bytes) -> Manifest:
    return Manifest.build(
        Descriptor(media_types.OCI_CONFIG, Digest.of(config), len(config)),
        [Descriptor(media_types.OCI_LAYER, Digest.of(layer), len(layer))],
    )


class Interleaved(RuleBasedStateMachine):
    """The model: what was accepted, and what clients were told and when."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        self.clock = Clock()
        self.engine = make_engine(root / "db")
        self.files = FileBlobs(root / "blobs", self.clock)
        self.blobs = SteppingBlobs(self.files)
        self.content = Content(self.engine, self.clock)
        self.links = BlobLinks(self.content, self.blobs, self.clock)
        self.servers = [Space(self.engine, self.blobs, clock=self.clock) for _ in range(2)]
        self.loop = asyncio.new_event_loop()
        self.steps = Steps(self.loop, self.blobs)
        self.accepted: dict[tuple[str, str], Manifest] = {}
        self.told: dict[tuple[str, str], float] = {}
        self.has_rules = False
        links._POLL_S = 0.0

    @initialize(has_rules=st.booleans())
    def choose_rules(self, has_rules: bool) -> None:
        self.has_rules = has_rules
        if has_rules:
            self.servers[0].retention.set_rule(Rule("demo/*", keep_last=1, untagged_days=1.5))

    @rule(repository=REPOSITORIES, content=CONTENTS)
    def push(self, repository: str, content: bytes) -> None:
        self.steps.start(self._push(repository, content))

    @rule(repository=REPOSITORIES, source=REPOSITORIES, content=CONTENTS)
    def mount(self, repository: str, source: str, content: bytes) -> None:
        if self.content.mount_blob(repository, source, Digest.of(content)) is not None:
            self.told[repository, Digest.of(content)] = self.clock.now

    @rule(repository=REPOSITORIES, content=CONTENTS)
    def look(self, repository: str, content: bytes) -> None:
        digest = Digest.of(content)
        if self.content.tell_blob(repository, digest) is not None:
            self.told[repository, digest] = self.clock.now

    @rule(repository=REPOSITORIES, config=CONTENTS, layer=CONTENTS, tag=st.sampled_from(["", "1", "2", "3"]))
    def put_manifest(self, repository: str, config: bytes, layer: bytes, tag: str) -> None:
        manifest = image(config, layer)
        try:
            self.content.put_manifest(repository, manifest.digest, manifest, [tag] if tag else [], None)
        except MissingReference:
            for needed in (manifest.config.digest, *(one.digest for one in manifest.layers)):
                told_at = self.told.get((repository, needed), 0.0)
                if needed in str(self._missing(repository, manifest)):
                    assert self.clock.now - told_at > DAY / 2, "a client was told that this blob is here"
        else:
            self.accepted[repository, manifest.digest] = manifest

    @rule(repository=REPOSITORIES, config=CONTENTS, layer=CONTENTS)
    def delete_manifest(self, repository: str, config: bytes, layer: bytes) -> None:
        digest = image(config, layer).digest
        try:
            self.content.delete_manifest(repository, digest)
        except ManifestNotFound:
            assert (repository, digest) not in self.accepted or self.has_rules
        self.accepted.pop((repository, digest), None)

    @rule(repository=REPOSITORIES, tag=st.sampled_from(["1", "2", "3"]))
    def delete_tag(self, repository: str, tag: str) -> None:
        with contextlib.suppress(ManifestNotFound):
            self.content.delete_tag(repository, tag)

    @rule(repository=REPOSITORIES, content=CONTENTS)
    def delete_blob(self, repository: str, content: bytes) -> None:
        digest = Digest.of(content)
        if any(name == repository and digest in self._needs(one) for (name, _), one in self.accepted.items()):
            return  # a client may, and breaks its own image then
        with contextlib.suppress(BlobNotFound):
            self.content.unlink_blob(repository, digest)
        self.told.pop((repository, digest), None)

    @rule(server=st.integers(0, 1))
    def collect(self, server: int) -> None:
        self.steps.start(self._quietly(self.servers[server].collect()))

    @rule(content=CONTENTS, repository=REPOSITORIES, order=st.lists(NUMBERS, min_size=3, max_size=9))
    def a_push_meets_a_collection_of_the_same_bytes(self, content: bytes, repository: str, order: list[int]) -> None:
        """Old bytes without a link, which a collection has claimed when a push of them begins."""
        digest = Digest.of(content)
        with self.engine.connect() as connection:
            is_linked = connection.execute(select(tables.blobs).where(tables.blobs.c.digest == digest)).first()
        if is_linked is None and not self.steps.tasks:
            path = self.files.path(self.files.put(content))
            os.utime(path, (self.clock.now - 2 * DAY,) * 2)
            self.collect(0)
            self.steps.open(name="listed")
            self.push(repository, content)
            for position in order:
                self.steps.open(position)
                self.links_have_bytes_and_manifests_are_whole()

    @rule(content=CONTENTS)
    def a_server_is_killed_after_its_claim(self, content: bytes) -> None:
        Removals(self.engine, self.clock).claim([Digest.of(content)])

    @precondition(lambda self: self.blobs.gates)
    @rule(position=NUMBERS)
    def step(self, position: int) -> None:
        self.steps.open(position)

    @precondition(lambda self: self.blobs.gates)
    @rule(position=NUMBERS)
    def some_steps(self, position: int) -> None:
        for _ in range(4):
            self.steps.open(position)

    @rule(hours=st.sampled_from([0.01, 1.0, 7.0, 13.0, 25.0, 60.0]))
    def time_goes_on(self, hours: float) -> None:
        self.clock.now += hours * HOUR
        self.steps.settle()

    @invariant()
    def links_have_bytes_and_manifests_are_whole(self) -> None:
        with self.engine.connect() as connection:
            for digest in connection.execute(select(tables.blobs.c.digest)).scalars():
                assert self.files.find(Digest(digest)) is not None, "a link without bytes"
        for (repository, digest), manifest in self.accepted.items():
            if self.content.find_manifest(repository, digest) is None:
                assert self.has_rules, "an accepted manifest is gone, and there is no rule"
            else:
                assert not self._missing(repository, manifest), "an accepted manifest lacks a blob"

    def teardown(self) -> None:
        self.clock.now += 11  # nobody waits for a killed server's claim
        self.steps.finish()
        self.links_have_bytes_and_manifests_are_whole()
        self.loop.close()
        self.engine.dispose()
        self.folder.cleanup()

    async def _push(self, repository: str, content: bytes) -> None:
        upload_id = await self.files.begin_upload()
        self.content.add_upload(upload_id, repository)

        async def pieces() -> AsyncIterator[bytes]:
            yield content

        await self.files.append(upload_id, 0, pieces())
        try:
            blob = await self.links.commit(repository, upload_id, Digest.of(content))
        except SanderlingError:
            return  # the client sends it again
        assert blob == BlobInfo(Digest.of(content), len(content))
        self.told[repository, blob.digest] = self.clock.now

    async def _quietly(self, work: Any) -> None:
        with contextlib.suppress(SanderlingError):
            await work

    def _needs(self, manifest: Manifest) -> set[Digest]:
        return {manifest.config.digest, *(one.digest for one in manifest.layers)}

    def _missing(self, repository: str, manifest: Manifest) -> list[Digest]:
        return [digest for digest in self._needs(manifest) if self.content.find_blob(repository, digest) is None]


Interleaved.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestInterleaved = Interleaved.TestCase
