"""What a workspace holds and may hold."""

import asyncio

import httpx
import pytest
from tests.registry.space.world import DAY, collect
from tests.registry.world import Clock, code_of, push_blob, push_image, put_manifest

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid
from sanderling.oci import Digest
from sanderling.registry import QuotaExceeded, Registry, RepositoryUsage

pytestmark = pytest.mark.anyio

UPLOADS = "/v2/demo/digits/blobs/uploads/"


def used(registry: Registry) -> int:
    return registry.space.quotas.usage("demo").size_bytes


async def test_what_repositories_share_counts_once_and_other_workspaces_do_not(
    client: httpx.AsyncClient, registry: Registry
) -> None:
    images = [await push_image(client, "1", name, b"shared" * 50) for name in ("demo/a", "demo/b/c")]
    quotas = registry.space.quotas
    usage = quotas.usage("demo")
    both = images[0].total_size_bytes
    assert usage.size_bytes == both + len(images[0].raw)
    assert usage.limit_bytes is None
    assert usage.repositories == (RepositoryUsage("demo/a", both, 2, 1), RepositoryUsage("demo/b/c", both, 2, 1))
    for other in ("dem", "demo2", "demo-a", "demo/a"):
        quotas.set_limit(other, 0)
    assert quotas.usage("dem").size_bytes == quotas.usage("demo2").size_bytes == 0
    await push_blob(client, b"their quotas are not ours")


async def test_what_is_deleted_makes_room_with_the_garbage(
    client: httpx.AsyncClient, registry: Registry, clock: Clock
) -> None:
    image = await push_image(client, "1", layer=b"x" * 500)
    registry.space.quotas.set_limit("demo", used(registry) + 100)
    assert (await client.post(UPLOADS, params={"digest": Digest.of(b"y" * 500)}, content=b"y" * 500)).status_code == 403
    registry.delete_image("demo/digits", image.digest)
    clock.now += 2 * DAY
    await collect(registry)
    assert used(registry) == 0
    await push_blob(client, b"y" * 500)


@pytest.mark.parametrize("way", ["post", "post-chunked", "put", "patch", "begin", "mount", "manifest"])
async def test_what_has_no_room_is_refused_and_leaves_nothing(
    client: httpx.AsyncClient, registry: Registry, blobs: FileBlobs, way: str
) -> None:
    content = b"z" * 300
    parameters = {"digest": Digest.of(content)}
    image = await push_image(client, "1")
    await push_blob(client, b"m" * 300, "demo/digits")
    before = used(registry)
    where = (await client.post(UPLOADS)).headers["location"]
    registry.space.quotas.set_limit("demo", before + (0 if way == "begin" else 299))

    async def chunked() -> object:
        yield content

    if way == "post":
        answer = await client.post(UPLOADS, params=parameters, content=content)
    elif way == "post-chunked":
        answer = await client.post(UPLOADS, params=parameters, content=chunked())  # type: ignore[arg-type]
    elif way == "put":
        answer = await client.put(where, params=parameters, content=content)
    elif way == "patch":
        answer = await client.patch(where, content=content)
    elif way == "begin":
        answer = await client.post(UPLOADS)
    elif way == "mount":  # what the workspace has takes no room
        answer = await client.post("/v2/demo/b/blobs/uploads/", params={"mount": Digest.of(b"m" * 300)})
        assert answer.status_code == 201
        return
    else:
        raw = image.raw[:-1] + b',"annotations":{"x":"' + b"x" * 300 + b'"}}'
        answer = await put_manifest(client, raw, image.media_type, "2")
        assert (await client.get("/v2/demo/digits/manifests/2")).status_code == 404
    assert (answer.status_code, code_of(answer)) == (403, "DENIED")
    assert "sanderling registry gc" in answer.text
    assert used(registry) == before
    assert blobs.find(Digest.of(content)) is None
    if way in ("put", "patch"):
        assert (await client.get(where)).status_code == 404
        assert list((blobs.root / "uploads").iterdir()) == []


async def test_parallel_pushes_do_not_pass_the_limit_together(client: httpx.AsyncClient, registry: Registry) -> None:
    registry.space.quotas.set_limit("demo", 1000)
    contents = [bytes([number]) * 300 for number in range(8)]
    answers = await asyncio.gather(
        *(client.post(UPLOADS, params={"digest": Digest.of(one)}, content=one) for one in contents)
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] * 3 + [403] * 5
    assert used(registry) == 900


def test_a_limit_that_cannot_be_is_refused_and_facts_are_told(registry: Registry) -> None:
    for limit in (-1, 2**63):
        with pytest.raises(Invalid):
            registry.space.quotas.set_limit("demo", limit)
    registry.space.quotas.set_limit("demo", 5)
    with pytest.raises(QuotaExceeded) as refused:
        registry._content.check_room("demo/digits", 6)
    assert (refused.value.workspace, refused.value.limit_bytes, refused.value.used_bytes) == ("demo", 5, 0)
    registry.space.quotas.set_limit("demo", None)
    registry._content.check_room("demo/digits", 6)
