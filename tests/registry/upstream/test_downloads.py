"""A hostile or failing upstream: nothing of it is kept that is not what its digest says, and nothing waits for ever."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.registry.upstream.world import Cache, Source, answer, body, caching, serving
from tests.registry.world import code_of

from sanderling.blobs import BlobInfo, FileBlobs
from sanderling.errors import Unavailable
from sanderling.oci import Digest
from sanderling.registry import Upstream
from sanderling.registry.upstream import downloads, origin

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024


def upstream(address: str, **options: object) -> Upstream:
    return Upstream("hub", address, is_plain_http=True, **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSE_S", 0.05)


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    made = Source()
    async with serving(made) as made.address:
        yield made


@pytest.fixture
async def cache(tmp_path: Path, source: Source) -> AsyncIterator[Cache]:
    async with caching(tmp_path / "cache", upstream(source.address)) as made:
        yield made


async def prepared(source: Source, cache: Cache, layer: bytes) -> Digest:
    """Let the cache know an image with *layer*; return the layer's digest."""
    digest = source.add_image([layer]).layers[0].digest
    assert (await cache.client.get("/v2/hub/library/app/manifests/1")).status_code == 200
    return digest


def nothing_is_left(cache: Cache, digest: Digest) -> bool:
    uploads = cache.blobs.root / "uploads"
    return cache.blobs.find(digest) is None and not list(uploads.iterdir())


async def test_a_large_blob_that_is_another_is_cut_off_and_not_kept(source: Source, cache: Cache) -> None:
    layer = os.urandom(6 * MIB)
    digest = await prepared(source, cache, layer)
    source.blobs[digest] = layer[:-1] + b"!"
    with pytest.raises(httpx.RemoteProtocolError):
        await cache.blob(digest)
    assert nothing_is_left(cache, digest)
    again = await cache.client.get(f"/v2/hub/library/app/blobs/{digest}")
    assert (again.status_code, code_of(again)) == (502, "UNAVAILABLE")
    assert source.count(digest) == 1


async def test_a_small_blob_that_is_another_is_an_answer_and_not_a_cut(source: Source, cache: Cache) -> None:
    digest = await prepared(source, cache, b"layer")
    source.blobs[digest] = b"loyer"
    response = await cache.client.get(f"/v2/hub/library/app/blobs/{digest}")
    assert (response.status_code, code_of(response)) == (502, "UNAVAILABLE")
    assert source.address in response.text
    assert nothing_is_left(cache, digest)


async def test_a_manifest_that_is_another_than_its_digest_is_not_kept(source: Source, cache: Cache) -> None:
    manifest = source.add_image([b"layer"])
    source.manifests[f"library/app:{manifest.digest}"] = (manifest.raw + b" ", manifest.media_type)
    response = await cache.client.get(f"/v2/hub/library/app/manifests/{manifest.digest}")
    assert (response.status_code, code_of(response)) == (502, "UNAVAILABLE")
    assert (await cache.client.get("/v2/_catalog")).json() == {"repositories": []}


@pytest.mark.parametrize("raw", [b"{}", b"no JSON", b"[" * 100_000, b'{"schemaVersion": 1}', b"x" * (5 * MIB)])
async def test_what_is_no_manifest_is_not_kept(source: Source, cache: Cache, raw: bytes) -> None:
    source.manifests["library/app:1"] = (raw, "application/vnd.oci.image.manifest.v1+json")
    response = await cache.client.get("/v2/hub/library/app/manifests/1")
    assert (response.status_code, code_of(response)) == (502, "UNAVAILABLE")


async def test_a_blob_without_end_is_left_at_its_promised_size(tmp_path: Path, source: Source) -> None:
    sent = 0

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        if "/blobs/" not in scope["path"] or scope["path"].endswith(config):
            return await source(scope, receive, send)
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send(body(bytes(65536), more=True))
            await asyncio.sleep(0)
            sent += 65536
        return None

    manifest = source.add_image([bytes(3 * MIB) + b"!"])
    config, digest = str(manifest.config.digest), manifest.layers[0].digest
    async with serving(endless) as address, caching(tmp_path / "c", upstream(address)) as cache:
        await cache.client.get("/v2/hub/library/app/manifests/1")
        with pytest.raises(httpx.RemoteProtocolError):
            await cache.blob(digest)
        assert nothing_is_left(cache, digest)
    assert sent < 40 * MIB


async def test_a_cut_is_taken_up_by_range_and_no_reader_notices(source: Source, cache: Cache) -> None:
    layer = os.urandom(8 * MIB)
    digest = await prepared(source, cache, layer)
    source.cut_after = 5 * MIB
    assert await asyncio.gather(*(cache.blob(digest) for _ in range(3))) == [layer] * 3
    (_, _, again) = source.ranges  # the config, the layer, the rest of it
    assert again == f"bytes={5 * MIB}-"


async def test_a_cut_is_taken_up_where_no_ranges_are_known(source: Source, cache: Cache) -> None:
    layer = os.urandom(8 * MIB)
    digest = await prepared(source, cache, layer)
    source.cut_after, source.knows_ranges = 5 * MIB, False
    assert await cache.blob(digest) == layer


async def begun(source: Source, cache: Cache, layer: bytes) -> Digest:
    """Pull the first bytes of *layer* and go; return its digest."""
    digest = await prepared(source, cache, layer)
    async with cache.client.stream("GET", f"/v2/hub/library/app/blobs/{digest}") as response:
        await anext(response.aiter_raw())
        await asyncio.sleep(0.3)
    return digest


async def test_a_restart_goes_on_where_it_was(tmp_path: Path, source: Source) -> None:
    layer = os.urandom(8 * MIB)
    source.gate = asyncio.Event()
    async with caching(tmp_path / "c", upstream(source.address)) as cache:
        digest = await begun(source, cache, layer)
        assert cache.blobs.find(digest) is None
    source.gate.set()
    async with caching(tmp_path / "c", upstream(source.address)) as cache:
        assert cache.blobs.find(digest) is None
        assert await cache.blob(digest) == layer
        assert not list((cache.blobs.root / "uploads").iterdir())
    start = int(source.ranges[-1].removeprefix("bytes=").removesuffix("-"))
    assert 3 * MIB < start <= 4 * MIB


async def test_a_part_that_was_damaged_meanwhile_is_thrown_away(tmp_path: Path, source: Source) -> None:
    layer = os.urandom(8 * MIB)
    source.gate = asyncio.Event()
    async with caching(tmp_path / "c", upstream(source.address)) as cache:
        digest = await begun(source, cache, layer)
    source.gate.set()
    (part,) = (tmp_path / "c" / "blobs" / "uploads").iterdir()
    with part.open("r+b") as file:
        file.write(b"other")
    async with caching(tmp_path / "c", upstream(source.address)) as cache:
        with pytest.raises(httpx.RemoteProtocolError):
            await cache.blob(digest)
        assert nothing_is_left(cache, digest)
        assert await cache.blob(digest) == layer


async def test_a_redirect_elsewhere_gets_no_password(tmp_path: Path, source: Source) -> None:
    layer = os.urandom(100_000)
    manifest = source.add_image([layer])
    seen: list[bytes] = []

    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"]).get(b"authorization", b""))
        await answer(send, 200, source.blobs[scope["path"][1:]])

    async with serving(elsewhere) as there:

        async def front(scope: Any, receive: Any, send: Any) -> None:
            if b"authorization" not in dict(scope["headers"]):
                await answer(send, 401, b"", **{"WWW-Authenticate": 'Basic realm="here"'})
            elif "/blobs/" in scope["path"]:
                await answer(send, 307, b"", Location=f"http://{there}/{scope['path'].rpartition('/')[2]}")
            else:
                await source(scope, receive, send)

        async with (
            serving(front) as address,
            caching(tmp_path / "c", upstream(address, username="user", password="secret")) as cache,
        ):
            assert await cache.pull("1") == [layer]
            await cache.registry.close()
    assert len(seen) == 2
    assert set(seen) == {b""}
    assert manifest.layers[0].digest in str(source.blobs)


async def test_an_upstream_that_says_nothing_is_given_up(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "QUESTION_S", 0.5)
    monkeypatch.setattr(downloads, "SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with caching(tmp_path / "c", upstream(address)) as cache:
            response = await cache.client.get("/v2/hub/library/app/manifests/1")
    assert (response.status_code, code_of(response)) == (503, "UNAVAILABLE")
    assert "did not answer" in response.text


async def test_a_blob_that_stops_coming_ends_in_a_cut_and_not_in_a_hang(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "SILENCE_S", 0.2)
    digest = await prepared(source, cache, os.urandom(4 * MIB))
    source.gate = asyncio.Event()
    async with asyncio.timeout(10):
        with pytest.raises(httpx.RemoteProtocolError):
            await cache.blob(digest)
    source.gate.set()
    assert len(await cache.blob(digest)) == 4 * MIB
    assert source.ranges[-1] == f"bytes={2 * MIB}-"


async def test_an_upstream_that_drips_is_given_up(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "PACE_S", 0.2)
    digest = await prepared(source, cache, os.urandom(2 * MIB))
    source.piece_bytes = 100
    pace = downloads._Pace()
    await asyncio.sleep(0.25)
    assert not pace.is_kept(100)
    assert await cache.blob(digest)


class FullDisk(FileBlobs):
    """A disk that is full when a blob is to be kept."""

    is_full = True

    async def append(self, upload_id: str, offset: int, chunks: Any) -> int:
        if self.is_full:
            async for _ in chunks:
                raise Unavailable("blobs in 'blobs': the disk is full")
        return await super().append(upload_id, offset, chunks)


async def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.registry.upstream.world.FileBlobs", FullDisk)
    async with caching(tmp_path / "c", upstream(source.address)) as cache:
        digest = await prepared(source, cache, b"layer")
        response = await cache.client.get(f"/v2/hub/library/app/blobs/{digest}")
        assert (response.status_code, code_of(response)) == (503, "UNAVAILABLE")
        assert "the disk is full" in response.text
        assert nothing_is_left(cache, digest)
        assert isinstance(cache.blobs, FullDisk)
        cache.blobs.is_full = False
        assert await cache.blob(digest) == b"layer"


class Sealed(FileBlobs):
    """A store that cannot give out what an upload has so far, as some object stores cannot."""

    read_upload = None  # type: ignore[assignment]


async def test_a_store_that_cannot_read_uploads_serves_the_late_when_the_blob_is_whole(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.registry.upstream.world.FileBlobs", Sealed)
    layer = os.urandom(12 * MIB)
    source.gate = asyncio.Event()
    async with caching(tmp_path / "c", upstream(source.address)) as cache:
        digest = await prepared(source, cache, layer)
        early = asyncio.create_task(cache.blob(digest))
        await asyncio.sleep(0.5)
        late = asyncio.create_task(cache.blob(digest))
        await asyncio.sleep(0.1)
        source.gate.set()
        assert await early == layer
        assert await late == layer
    assert source.count(digest) == 1


async def test_another_server_at_the_same_blob_is_no_hindrance(tmp_path: Path, source: Source) -> None:
    layer = os.urandom(6 * MIB)
    source.gate = asyncio.Event()
    async with (
        caching(tmp_path / "c", upstream(source.address)) as one,
        caching(tmp_path / "c", upstream(source.address)) as other,
    ):
        digest = await prepared(source, one, layer)
        pulls = [asyncio.create_task(one.blob(digest))]
        await asyncio.sleep(0.2)
        pulls.append(asyncio.create_task(other.blob(digest)))
        await asyncio.sleep(0.2)
        source.gate.set()
        assert await asyncio.gather(*pulls) == [layer, layer]
        assert one.blobs.find(digest) == BlobInfo(digest, len(layer))
        assert not list((one.blobs.root / "uploads").iterdir())


async def test_ten_slow_clients_of_a_large_blob_take_no_memory_and_hold_nobody_up(source: Source, cache: Cache) -> None:
    piece = os.urandom(MIB)
    layer = piece * 256
    digest = await prepared(source, cache, layer)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    url = f"/v2/hub/library/app/blobs/{digest}"

    async def slow(enough: int) -> int:
        """Take a little, sleep until the fast one is through, take up to *enough*."""
        size = 0
        async with cache.client.stream("GET", url) as response:
            async for part in response.aiter_raw():
                size += len(part)
                if size >= enough:
                    break
                if size < 2 * MIB:
                    await asyncio.sleep(0.02)
                else:
                    await fast
        return size

    async def quick() -> Digest:
        hasher = sha256()
        async with cache.client.stream("GET", url) as response:
            async for part in response.aiter_raw():
                hasher.update(part)
        return Digest.parse(f"sha256:{hasher.hexdigest()}")

    fast = asyncio.create_task(quick())
    sizes = await asyncio.gather(slow(len(layer)), *(slow(16 * MIB) for _ in range(9)))
    assert sizes[0] == len(layer)
    assert min(sizes) >= 16 * MIB
    assert await fast == digest
    assert source.count(digest) == 1
    risen = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    # Both servers and eleven clients are in this process.
    assert risen < 64 * MIB, f"{risen / MIB:.0f} MiB"
