"""What the server and the portal ask the registry."""

from datetime import UTC, datetime

import httpx
import pytest
from tests.registry.world import Clock, push_image, put_manifest

from sanderling.oci import Index, Platform
from sanderling.registry import ManifestNotFound, Registry, RepositoryNotFound, TagInfo

pytestmark = pytest.mark.anyio


async def test_an_image_is_found_by_tag_and_digest(client: httpx.AsyncClient, registry: Registry, clock: Clock) -> None:
    manifest = await push_image(client, "1")
    by_tag = registry.find_image("demo/digits", "1")
    assert by_tag is not None
    assert registry.find_image("demo/digits", manifest.digest) == by_tag
    assert by_tag.digest == manifest.digest
    assert by_tag.size_bytes == manifest.total_size_bytes
    assert by_tag.platforms == ("linux/arm64",)
    assert by_tag.created == "1970-01-01T00:00:00Z"
    assert by_tag.pushed_at == datetime.fromtimestamp(clock.now, UTC)
    for repository, reference in (("demo/digits", "2"), ("demo/none", "1"), ("demo/digits", "sha256:x")):
        assert registry.find_image(repository, reference) is None


async def test_an_index_counts_all_its_platforms(client: httpx.AsyncClient, registry: Registry) -> None:
    manifest = await push_image(client, "1")
    index = Index.build([manifest.descriptor(Platform("linux", "arm64", "v8"))])
    await put_manifest(client, index.raw, index.media_type, "multi")
    bare = Index.build([manifest.descriptor()])
    await put_manifest(client, bare.raw, bare.media_type, "bare")
    for tag, raw, platform in (("multi", index.raw, "linux/arm64/v8"), ("bare", bare.raw, "linux/arm64")):
        image = registry.find_image("demo/digits", tag)
        assert image is not None
        assert image.platforms == (platform,)
        assert image.size_bytes == len(raw) + manifest.total_size_bytes


async def test_tags_are_listed_with_size_and_time_the_latest_first(
    client: httpx.AsyncClient, registry: Registry, clock: Clock
) -> None:
    first = await push_image(client, "1", layer=b"one")
    clock.now += 60
    second = await push_image(client, "2", layer=b"two, and larger")
    then = [datetime.fromtimestamp(clock.now - late, UTC) for late in (0, 60)]
    assert registry.tags("demo/digits") == [
        TagInfo("2", second.digest, second.total_size_bytes, then[0]),
        TagInfo("1", first.digest, first.total_size_bytes, then[1]),
    ]
    assert registry.repositories() == registry.repositories("demo") == ["demo/digits"]
    assert registry.repositories("dem") == []
    with pytest.raises(RepositoryNotFound):
        registry.tags("demo/none")


async def test_an_image_is_deleted_at_once(client: httpx.AsyncClient, registry: Registry) -> None:
    manifest = await push_image(client, "1")
    registry.delete_image("demo/digits", "1")
    assert registry.find_image("demo/digits", "1") is None
    registry.delete_image("demo/digits", manifest.digest)
    assert registry.find_image("demo/digits", manifest.digest) is None
    with pytest.raises(ManifestNotFound):
        registry.delete_image("demo/digits", "1")
