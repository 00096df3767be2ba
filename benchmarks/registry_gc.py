"""Garbage collection beside pushes: python benchmarks/registry_gc.py [MANIFESTS].

Fills a database as the server opens it with MANIFESTS (10,000) manifests of 5 blobs each in 20
repositories, deletes half, and collects, while a client pushes small images without a pause. Prints the
seconds of a dry run and of the run, the longest time that the collection held the database's write lock,
and how long pushes took without and beside it.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import ClassVar

from sqlalchemy import Connection, insert

from sanderling.blobs import FileBlobs
from sanderling.oci import Descriptor, Digest, Manifest, media_types
from sanderling.registry import Registry, Rule, tables
from sanderling.registry.space.space import Space
from sanderling.server.database import SqliteEngine, open_database

BLOBS = 5
REPOSITORIES = 20
DAY_S = 24 * 3600.0


COLLECTING = ContextVar("COLLECTING", default=False)


class TimedEngine(SqliteEngine):
    """Notes how long each transaction of the collecting thread held the write lock."""

    held: ClassVar[list[float]] = []

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with super().begin() as connection:
            began = time.perf_counter()
            try:
                yield connection
            finally:
                if COLLECTING.get():
                    self.held.append(time.perf_counter() - began)


def fill(registry: Registry, blobs: FileBlobs, engine: SqliteEngine, count: int) -> None:
    old = time.time() - 10 * DAY_S
    contents = [os.urandom(64) for _ in range(BLOBS * count)]
    for content in contents:  # not through `put`: 50,000 fsyncs are another benchmark
        digest = Digest.of(content)
        path = blobs._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (old, old))
    with engine.begin() as connection:
        connection.execute(
            insert(tables.repositories),
            [{"id": n + 1, "name": f"demo/image-{n}", "created_at": old} for n in range(REPOSITORIES)],
        )
        links, manifests, references, tags = [], [], [], []
        for number in range(count):
            repository = number % REPOSITORIES + 1
            parts = [Digest.of(content) for content in contents[number * BLOBS : (number + 1) * BLOBS]]
            one = Manifest.build(
                Descriptor(media_types.OCI_CONFIG, parts[0], 64),
                [Descriptor(media_types.OCI_LAYER, part, 64) for part in parts[1:]],
            )
            pushed = old + number
            key = {"repository_id": repository}
            links += [key | {"digest": part, "size_bytes": 64, "linked_at": pushed} for part in parts]
            references += [
                key | {"manifest_digest": one.digest, "digest": part, "is_manifest": False, "size_bytes": 64}
                for part in parts
            ]
            manifests.append(
                key | {"digest": one.digest, "media_type": one.media_type, "raw": one.raw, "size_bytes": len(one.raw),
                       "total_size_bytes": 0, "subject": "", "artifact_type": "", "annotations": "{}",
                       "platforms": "[]", "created": "", "pushed_at": pushed}
            )  # fmt: skip
            tags.append(key | {"name": f"t{number}", "digest": one.digest, "pushed_at": pushed})
        for table, rows in ((tables.blobs, links), (tables.manifests, manifests)):
            connection.execute(insert(table), rows)
        for table, rows in ((tables.references, references), (tables.tags, tags)):
            connection.execute(insert(table), rows)


async def push_once(registry: Registry) -> float:
    """Push an image of two new blobs as the endpoints do; return the seconds."""
    began = time.perf_counter()
    digests = []
    for _ in range(2):
        content = os.urandom(64)
        upload_id = await registry._blobs.begin_upload()

        async def pieces(content: bytes = content) -> AsyncIterator[bytes]:
            yield content

        await registry._blobs.append(upload_id, 0, pieces())
        digests.append(Digest.of(content))
        await registry._links.commit("demo/image-1", upload_id, digests[-1])
    one = Manifest.build(
        Descriptor(media_types.OCI_CONFIG, digests[0], 64), [Descriptor(media_types.OCI_LAYER, digests[1], 64)]
    )
    await asyncio.to_thread(registry._content.put_manifest, "demo/image-1", one.digest, one, ["pushed"], None)
    return time.perf_counter() - began


async def pushes(registry: Registry, done: asyncio.Event) -> list[float]:
    found = []
    while not done.is_set():
        found.append(await push_once(registry))
    return found


async def measure(registry: Registry, space: Space) -> dict[str, object]:
    alone = [await push_once(registry) for _ in range(100)]
    TimedEngine.held.clear()
    began = time.perf_counter()
    dry = await space.collect(dry_run=True)
    dry_s = time.perf_counter() - began
    done = asyncio.Event()
    TimedEngine.held.clear()
    async with asyncio.TaskGroup() as group:
        beside = group.create_task(pushes(registry, done))
        began = time.perf_counter()
        COLLECTING.set(True)
        report = await space.collect()
        run_s = time.perf_counter() - began
        done.set()
    assert sorted(map(repr, dry.gone)) == sorted(map(repr, report.gone)), "the dry run said something else"
    times = beside.result()
    return {
        "gone": len(report.gone),
        "freedBytes": report.freed_bytes,
        "dryRunSeconds": round(dry_s, 2),
        "seconds": round(run_s, 2),
        "longestTransactionMs": round(1000 * max(TimedEngine.held), 1),
        "pushesBeside": len(times),
        "pushMsAlone": [round(1000 * part, 1) for part in (statistics.median(alone), max(alone))],
        "pushMsBeside": [round(1000 * part, 1) for part in (statistics.median(times), max(times))],
    }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        plain = open_database(Path(folder) / "db")
        plain.__class__ = TimedEngine
        assert isinstance(plain, TimedEngine)
        blobs = FileBlobs(Path(folder) / "blobs")
        registry = Registry(plain, blobs, None, "localhost")  # type: ignore[arg-type]
        fill(registry, blobs, plain, count)
        registry.space.retention.set_rule(Rule("demo/*", keep_last=count // REPOSITORIES // 2))
        print(json.dumps({"manifests": count} | asyncio.run(measure(registry, registry.space)), indent=2))
        plain.dispose()


if __name__ == "__main__":
    main()
