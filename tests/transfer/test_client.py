import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator

import pytest

from sanderling.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from sanderling.oci import Descriptor, Digest, DigestMismatch, Index, Manifest, media_types
from sanderling.transfer import (
    BlobNotFound,
    Credential,
    Faulty,
    LengthMismatch,
    ManifestNotFound,
    Patience,
    Refused,
    RegistryClient,
    SignInNeeded,
    SignInRefused,
    Unreachable,
)
from sanderling.transfer.upload import OpenFrom
from tests.transfer.fake_registry import PASSWORD, USER, FakeRegistry

pytestmark = pytest.mark.anyio
CONTENT = os.urandom(3_000_000)
BLOB = Descriptor("application/octet-stream", Digest.of(CONTENT), len(CONTENT))
KNOWN = Credential(USER, PASSWORD)
INDEX = Index.build([])


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry().serving() as made:
        yield made


def client(registry: FakeRegistry, credential: Credential | None = None, repository: str = "demo/x") -> RegistryClient:
    return RegistryClient(
        registry.host, repository, credential, is_plain_http=True, patience=Patience(3, 0.01), uses_proxy=False
    )


def opener(content: bytes, piece: int = 100_000) -> OpenFrom:
    async def open_from(start: int) -> AsyncGenerator[bytes, None]:
        for at in range(start, len(content), piece):
            yield content[at : at + piece]

    return open_from


async def received(made: RegistryClient, start: int = 0) -> bytes:
    return b"".join([piece async for piece in made.stream_blob(BLOB, start)])


# Signing in


@pytest.mark.parametrize("auth", ["", "basic", "bearer"])
async def test_it_signs_in_as_the_registry_asks(registry: FakeRegistry, auth: str) -> None:
    registry.auth = auth
    async with client(registry, KNOWN) as made:
        assert await made.push_blob(BLOB.digest, BLOB.size, opener(CONTENT)) == len(CONTENT)
        assert await made.has_blob(BLOB.digest)
        assert await received(made) == CONTENT


async def test_nothing_secret_is_sent_to_a_registry_that_does_not_ask(registry: FakeRegistry) -> None:
    async with client(registry, KNOWN) as made:
        await made.has_blob(BLOB.digest)
    assert not [headers for _, _, headers in registry.seen if "Authorization" in headers]


async def test_a_server_that_wants_the_oauth2_form_gets_it(registry: FakeRegistry) -> None:
    registry.auth, registry.token_methods = "bearer", ("POST",)
    async with client(registry, KNOWN) as made:
        assert not await made.has_blob(BLOB.digest)


async def test_an_identity_token_is_exchanged(registry: FakeRegistry) -> None:
    registry.auth = "bearer"
    async with client(registry, Credential("", "", "identity")) as made:
        assert not await made.has_blob(BLOB.digest)
    async with client(registry, Credential("", "", "another")) as made:
        with pytest.raises(SignInRefused):
            await made.has_blob(BLOB.digest)


async def test_a_token_that_ends_in_the_middle_is_replaced(registry: FakeRegistry) -> None:
    registry.auth, registry.token_uses = "bearer", 2
    async with client(registry, KNOWN) as made:
        for _ in range(4):
            assert not await made.has_blob(BLOB.digest)
        await made.push_blob(BLOB.digest, BLOB.size, opener(CONTENT))
        assert await received(made) == CONTENT
    assert len(registry.asked("GET", "/token")) > 3


async def test_a_token_is_replaced_before_it_ends(registry: FakeRegistry) -> None:
    registry.auth, registry.token_ttl = "bearer", 1
    async with client(registry, KNOWN) as made:
        assert not await made.has_blob(BLOB.digest)
        await asyncio.sleep(0.6)
        assert not await made.has_blob(BLOB.digest)
    assert len(registry.asked("HEAD", "/blobs/")) == 3  # one to be asked, and one each


async def test_many_at_once_sign_in_once(registry: FakeRegistry) -> None:
    from sanderling.transfer import all_of

    registry.auth = "bearer"
    async with client(registry, KNOWN) as made:
        await all_of([lambda: made.has_blob(BLOB.digest)] * 20, 8)
    assert len(registry.asked("GET", "/token")) == 1


async def test_a_mount_asks_for_the_right_on_both_repositories(registry: FakeRegistry) -> None:
    registry.auth = "bearer"
    registry.blobs["demo/y", BLOB.digest] = CONTENT
    async with client(registry, KNOWN) as made:
        assert await made.push_blob(BLOB.digest, BLOB.size, opener(CONTENT), "demo/y") == 0
    scopes = " ".join(scope for _, scope in registry.tokens.values())
    assert "repository:demo/x:pull,push" in scopes
    assert "repository:demo/y:pull" in scopes


async def test_without_a_mount_the_blob_is_sent(registry: FakeRegistry) -> None:
    registry.mounts = False
    async with client(registry) as made:
        assert await made.push_blob(BLOB.digest, BLOB.size, opener(CONTENT), "demo/y") == len(CONTENT)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_wrong_or_no_credentials_are_told_apart(registry: FakeRegistry, auth: str) -> None:
    registry.auth = auth
    async with client(registry, Credential(USER, "wrong-secret")) as made:
        with pytest.raises(SignInRefused, match=r"refused the credentials of user 'demo' for demo/x") as caught:
            await made.fetch_manifest("1")
    assert "wrong-secret" not in str(caught.value)
    registry.token_uses = 0
    async with client(registry) as made:
        with pytest.raises(SignInNeeded, match=f"{registry.host} asks for credentials for demo/x"):
            await made.fetch_manifest("1")


async def test_a_right_that_is_missing_is_not_a_wrong_password(registry: FakeRegistry) -> None:
    registry.auth, registry.token_uses = "bearer", 0
    async with client(registry, KNOWN) as made:
        with pytest.raises(Denied, match="no right in demo/x: fetching the manifest 1 was refused"):
            await made.fetch_manifest("1")


# Redirects


async def test_a_redirect_to_another_host_gets_no_credentials(registry: FakeRegistry) -> None:
    registry.auth = "bearer"
    with FakeRegistry().serving() as store:
        store.blobs["demo/x", BLOB.digest] = registry.blobs["demo/x", BLOB.digest] = CONTENT
        store.cut_downloads_at = [1_000_000]
        registry.blobs_are_at = f"http://{store.host}"
        async with client(registry, KNOWN) as made:
            assert await received(made) == CONTENT
        assert [headers.get("Range") for headers in store.asked("GET", "/blobs/")] == [None, "bytes=1000000-"]
        assert not [headers for _, _, headers in store.seen if "Authorization" in headers]


async def test_redirects_without_end_are_refused(registry: FakeRegistry) -> None:
    registry.blobs["demo/x", BLOB.digest] = CONTENT
    registry.blobs_are_at = f"http://{registry.host}"
    async with client(registry) as made:
        with pytest.raises(Refused, match="no end"):
            await received(made)


# Retries


async def test_overload_and_cuts_are_outlived(registry: FakeRegistry) -> None:
    registry.faults = ["503", "cut"]
    async with client(registry) as made:
        assert not await made.has_blob(BLOB.digest)
    assert len(registry.seen) == 3


async def test_the_pause_that_the_registry_asks_for_is_kept(registry: FakeRegistry) -> None:
    registry.faults, registry.retry_after = ["429"], "1"
    began = time.monotonic()
    async with client(registry) as made:
        assert not await made.has_blob(BLOB.digest)
    assert time.monotonic() - began >= 1


async def test_a_pause_that_is_too_long_is_an_error_at_once(registry: FakeRegistry) -> None:
    registry.faults, registry.retry_after = ["429"], "3600"
    async with client(registry) as made:
        with pytest.raises(Faulty) as caught:
            await made.has_blob(BLOB.digest)
    assert caught.value.retry_after_s == 3600


async def test_a_registry_that_stays_away_is_unreachable() -> None:
    made = RegistryClient("127.0.0.1:9", "demo/x", is_plain_http=True, patience=Patience(2, 0.01))
    async with made:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 cannot be reached.*is it running"):
            await made.fetch_manifest("1")


# Blobs


async def test_a_download_goes_on_where_it_was_cut(registry: FakeRegistry) -> None:
    registry.blobs["demo/x", BLOB.digest] = CONTENT
    registry.cut_downloads_at = [700_000] * 3
    async with client(registry) as made:
        assert await received(made) == CONTENT
        assert await received(made, 2_000_000) == CONTENT[2_000_000:]
    ranges = [headers.get("Range") for headers in registry.asked("GET", "/blobs/")]
    assert ranges == [None, "bytes=700000-", "bytes=1400000-", "bytes=2100000-", "bytes=2000000-"]


async def test_without_ranges_it_starts_again_and_gives_each_byte_once(registry: FakeRegistry) -> None:
    registry.blobs["demo/x", BLOB.digest] = CONTENT
    registry.cut_downloads_at, registry.knows_ranges = [700_000, 900_000], False
    async with client(registry) as made:
        assert await received(made) == CONTENT


async def test_other_content_and_more_of_it_are_refused(registry: FakeRegistry) -> None:
    async with client(registry) as made:
        with pytest.raises(BlobNotFound):
            await received(made)
        registry.blobs["demo/x", BLOB.digest] = bytes(len(CONTENT))
        with pytest.raises(DigestMismatch):
            await received(made)
        registry.blobs["demo/x", BLOB.digest] = CONTENT + b"more"
        with pytest.raises(LengthMismatch):
            await received(made)
        registry.blobs["demo/x", BLOB.digest] = CONTENT[:-1]
        with pytest.raises(LengthMismatch):
            await received(made)


async def test_an_upload_goes_on_where_it_was_cut(registry: FakeRegistry) -> None:
    registry.cut_uploads_at = [1_000_000, 500_000]
    told: list[int] = []
    async with client(registry) as made:
        await made.push_blob(BLOB.digest, BLOB.size, opener(CONTENT), progress=told.append)
    assert registry.blobs["demo/x", BLOB.digest] == CONTENT
    ranges = [headers["Content-Range"] for headers in registry.asked("PATCH", "/uploads/")]
    assert ranges == [f"1000000-{len(CONTENT) - 1}", f"1500000-{len(CONTENT) - 1}"]
    assert told[-1] == len(CONTENT)
    assert len(registry.asked("POST", "/uploads/")) == 1


async def test_the_content_of_an_upload_that_was_cut_is_closed_before_it_is_opened_again(
    registry: FakeRegistry,
) -> None:
    registry.cut_uploads_at = [1_000_000, 500_000]
    others_open: list[int] = []
    count_open = 0

    async def open_from(start: int) -> AsyncGenerator[bytes, None]:
        nonlocal count_open
        others_open.append(count_open)
        count_open += 1
        try:
            for at in range(start, len(CONTENT), 100_000):
                yield CONTENT[at : at + 100_000]
        finally:
            count_open -= 1

    async with client(registry) as made:
        await made.push_blob(BLOB.digest, BLOB.size, open_from)
    assert others_open == [0, 0, 0]
    assert count_open == 0


async def test_where_an_upload_cannot_go_on_it_starts_again(registry: FakeRegistry) -> None:
    registry.cut_uploads_at, registry.knows_status = [1_000_000], False
    async with client(registry) as made:
        await made.push_blob(BLOB.digest, BLOB.size, opener(CONTENT))
    assert registry.blobs["demo/x", BLOB.digest] == CONTENT
    assert len(registry.asked("POST", "/uploads/")) == 2


async def test_an_upload_that_the_registry_forgot_starts_again(registry: FakeRegistry) -> None:
    registry.faults = ["", "404"]
    async with client(registry) as made:
        await made.push_blob(BLOB.digest, BLOB.size, opener(CONTENT))
    assert registry.blobs["demo/x", BLOB.digest] == CONTENT


@pytest.mark.parametrize(
    ("status", "error"), [("404", NotFound), ("409", Conflict), ("413", Refused), ("418", Invalid)]
)
async def test_what_a_registry_refuses_is_sorted_by_what_one_can_do(
    registry: FakeRegistry, status: str, error: type[Exception]
) -> None:
    registry.faults = [status]
    async with client(registry) as made:
        with pytest.raises(error, match=f"registry {registry.host}: the manifest 1 in demo/x"):
            await made.push_manifest("1", INDEX.raw, INDEX.media_type)


async def test_content_that_is_not_its_digest_is_never_completed(registry: FakeRegistry) -> None:
    async with client(registry) as made:
        for content, error in (
            (bytes(len(CONTENT)), DigestMismatch),
            (CONTENT[:-1], LengthMismatch),
            (CONTENT + b"x", LengthMismatch),
        ):
            with pytest.raises(error):
                await made.push_blob(BLOB.digest, BLOB.size, opener(content, 70_001))
    assert registry.blobs == {}


async def test_an_error_of_the_source_is_not_a_fault_of_the_registry(registry: FakeRegistry) -> None:
    async def broken(start: int) -> AsyncGenerator[bytes, None]:
        yield CONTENT[:100_000]
        raise Unavailable("the disk is gone")

    async with client(registry) as made:
        with pytest.raises(Unavailable, match="the disk is gone"):
            await made.push_blob(BLOB.digest, BLOB.size, broken)
    assert len(registry.asked("PUT", "/uploads/")) == 1
    assert registry.blobs == {}


async def test_an_empty_blob_goes_there_and_back(registry: FakeRegistry) -> None:
    empty = Descriptor("application/octet-stream", Digest.of(b""), 0)
    async with client(registry) as made:
        await made.push_blob(empty.digest, 0, opener(b""))
        assert [piece async for piece in made.stream_blob(empty)] == []
    assert registry.blobs["demo/x", empty.digest] == b""


# Manifests


async def test_manifests_go_there_and_back(registry: FakeRegistry) -> None:
    async with client(registry) as made:
        assert await made.push_manifest("1", INDEX.raw, INDEX.media_type) == INDEX.digest
        assert await made.fetch_manifest("1") == (INDEX.raw, INDEX.media_type)
        found = await made.find_manifest("1")
        assert found is not None
        assert (found.digest, found.size, found.media_type) == (INDEX.digest, len(INDEX.raw), INDEX.media_type)
        assert await made.find_manifest("2") is None
        with pytest.raises(ManifestNotFound, match=f"{registry.host}/demo/x:2 was not found in the registry"):
            await made.fetch_manifest("2")


async def test_a_manifest_by_digest_is_verified(registry: FakeRegistry) -> None:
    registry.manifests["demo/x", INDEX.digest] = (INDEX.raw + b" ", INDEX.media_type)
    async with client(registry) as made:
        with pytest.raises(DigestMismatch):
            await made.fetch_manifest(INDEX.digest)


async def test_a_manifest_without_end_is_refused(registry: FakeRegistry) -> None:
    registry.manifests["demo/x", "1"] = (b" " * 5_000_000, INDEX.media_type)
    async with client(registry) as made:
        with pytest.raises(Invalid, match="larger than"):
            await made.fetch_manifest("1")


async def test_tags_come_page_by_page(registry: FakeRegistry) -> None:
    tags = [f"t{n}" for n in range(7)]
    async with client(registry) as made:
        for tag in tags:
            await made.push_manifest(tag, INDEX.raw, INDEX.media_type)
        assert [tag async for tag in made.tags()] == tags


async def test_where_the_registry_keeps_no_referrers_a_tag_does(registry: FakeRegistry) -> None:
    registry.has_referrers = False
    empty = Descriptor(media_types.OCI_EMPTY, Digest.of(b"{}"), 2)
    made_of = [
        Manifest.build(empty, [empty], artifact_type=f"application/x{n}", subject=INDEX.descriptor()) for n in range(2)
    ]
    async with client(registry) as made:
        for manifest in made_of * 2:
            await made.push_manifest(manifest.digest, manifest.raw, manifest.media_type)
        found = await made.referrers(INDEX.digest)
        assert [one.digest for one in found] == [manifest.digest for manifest in made_of]
        assert [one.digest for one in await made.referrers(INDEX.digest, "application/x1")] == [made_of[1].digest]
        with pytest.raises(NotFound):
            await made.fetch_manifest("1")
