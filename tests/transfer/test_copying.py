import asyncio
import itertools
import json
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from sanderling.errors import Invalid, NotFound, SanderlingError
from sanderling.oci import Descriptor, Digest, Index, Platform, canonical_json
from sanderling.transfer import Damaged, Patience, RegistryClient
from sanderling.transfer.copying import CopyProgress, choose_platform, copy
from sanderling.transfer.places import DockerArchivePlace, LayoutPlace, OciArchivePlace, RegistryPlace
from sanderling.transfer.places.port import Place
from tests.transfer.fake_registry import FakeRegistry
from tests.transfer.images import Made, content_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry().serving() as made:
        yield made


def repository(registry: FakeRegistry, name: str = "demo/x") -> RegistryPlace:
    made = RegistryClient(registry.host, name, is_plain_http=True, patience=Patience(3, 0.01), uses_proxy=False)
    return RegistryPlace(made)


@pytest.fixture
def made() -> Made:
    """Two platforms and a nested index under `1`, with a signature."""
    made = Made()
    inner = made.index(made.image("arm64"), made.image("riscv64"))
    top = made.index(made.image("amd64"), inner)
    made.name(top, "1")
    made.signature(top)
    return made


async def test_whole_indexes_go_through_every_kind_of_place_unchanged(
    made: Made, registry: FakeRegistry, tmp_path: Path
) -> None:
    places: list[Place] = [
        LayoutPlace(made.write(tmp_path / "a")),
        repository(registry),
        repository(registry, "demo/y"),
    ]
    places += [OciArchivePlace(tmp_path / "x.tar"), LayoutPlace(tmp_path / "b")]
    top = made.listed[0].digest
    for source, target in itertools.pairwise(places):
        result = await copy(source, target, [("1", "1")])
        assert result.digests == {"1": top}
        assert (result.manifests, result.blobs) == (5, 6)
    for place in places:
        await place.aclose()
    signature = {digest.hex for digest in made.blobs} - content_of(tmp_path / "b").keys()
    assert len(signature) == 3  # its manifest, config and payload did not come: they were not asked for
    assert content_of(tmp_path / "b").items() <= content_of(tmp_path / "a").items()
    assert registry.asked("PUT", "demo/y/blobs/") == []  # mounted


async def test_manifests_come_last_children_before_their_index(
    made: Made, registry: FakeRegistry, tmp_path: Path
) -> None:
    target = repository(registry)
    await copy(LayoutPlace(made.write(tmp_path / "a")), target, [("1", "1")])
    await target.aclose()
    writes = [path for method, path, _ in registry.seen if method in ("PUT", "POST")]
    first = next(n for n, path in enumerate(writes) if "/manifests/" in path)
    assert all("/manifests/" in path for path in writes[first:])
    assert writes[-1].endswith("/manifests/1")


async def test_what_is_there_is_not_sent(made: Made, tmp_path: Path) -> None:
    source, target = LayoutPlace(made.write(tmp_path / "a")), LayoutPlace(tmp_path / "b")
    told: list[CopyProgress] = []
    first = await copy(source, target, [("1", "1")], progress=told.append)
    again = await copy(source, target, [("1", "2")])
    assert (first.sent_blobs, again.sent_blobs, again.sent_bytes) == (6, 0, 0)
    assert told[-1].done_bytes == told[-1].total_bytes == first.total_bytes
    assert await target.tags() == ["1", "2"]


async def test_one_platform_is_picked_also_from_a_nested_index(made: Made, tmp_path: Path) -> None:
    source = LayoutPlace(made.write(tmp_path / "a"))
    result = await copy(source, LayoutPlace(tmp_path / "b"), [("1", "1")], platform=Platform("linux", "arm64"))
    assert (result.manifests, result.blobs) == (1, 2)
    with pytest.raises(Invalid, match="no image for linux/s390x: it was built for linux/amd64, linux/ar"):
        await choose_platform(source, await source.resolve("1"), Platform("linux", "s390x"))


async def test_a_layout_lists_its_images_before_what_is_about_them_with_their_kind(made: Made, tmp_path: Path) -> None:
    target = LayoutPlace(tmp_path / "b")
    await copy(LayoutPlace(made.write(tmp_path / "a")), target, [("1", "1")], referrers=True)
    image, about = json.loads((tmp_path / "b" / "index.json").read_bytes())["manifests"]
    assert (image["digest"], about["artifactType"]) == (made.listed[0].digest, "application/x-signature")
    assert (await target.resolve("")).digest == made.listed[0].digest  # it is the only image
    [found] = await target.referrers(made.listed[0].digest)
    assert (found.digest, found.artifact_type) == (made.listed[1].digest, "application/x-signature")


async def test_what_is_about_an_image_leaves_the_list_when_its_last_name_moves_on(tmp_path: Path) -> None:
    made = Made()
    shared = made.image("amd64")
    old, other, new = made.index(shared, made.image("arm64")), made.index(made.index(shared)), made.image(seed=2)
    for name, top in (("old", old), ("twice", old), ("other", other), ("new", new)):
        made.name(top, name)
    about = [made.signature(one) for one in (old, shared, new)]
    about.append(made.signature(about[0], "application/x-countersignature"))
    target = LayoutPlace(tmp_path / "b")
    await copy(
        LayoutPlace(made.write(tmp_path / "a")), target, [(n, n) for n in ("old", "twice", "other")], referrers=True
    )

    async def listed() -> set[Digest]:
        index = Index.parse((tmp_path / "b" / "index.json").read_bytes())
        return {one.digest for one in index.manifests if one.artifact_type}

    assert await listed() == {one.digest for one in (about[0], about[1], about[3])}
    await copy(LayoutPlace(tmp_path / "a"), target, [("new", "old")])
    assert await listed() == {one.digest for one in (about[0], about[1], about[3])}  # the image has another name
    await copy(LayoutPlace(tmp_path / "a"), target, [("new", "twice")])
    assert await listed() == {about[1].digest}  # its subject is in `other` too


async def test_referrers_come_along_when_they_are_asked_for(made: Made, registry: FakeRegistry, tmp_path: Path) -> None:
    registry.has_referrers = False
    between = repository(registry)
    await copy(LayoutPlace(made.write(tmp_path / "a")), between, [("1", "1")], referrers=True)
    back = LayoutPlace(tmp_path / "b")
    await copy(between, back, [("1", "1")], referrers=True)
    await between.aclose()
    assert content_of(tmp_path / "b") == content_of(tmp_path / "a")
    assert [one.digest for one in await back.referrers(made.listed[0].digest)] == [made.listed[1].digest]


async def test_signatures_that_are_kept_under_a_tag_come_too(
    made: Made, registry: FakeRegistry, tmp_path: Path
) -> None:
    source, target = repository(registry), repository(registry, "demo/y")
    layout = LayoutPlace(made.write(tmp_path / "a"))
    await copy(layout, source, [("1", "1")])
    tag = f"sha256-{made.listed[0].digest.hex}.sig"
    await copy(layout, source, [(made.listed[1].digest, tag)])
    await copy(source, target, [("1", "1")], referrers=True)
    assert ("demo/y", tag) in registry.manifests
    await source.aclose()
    await target.aclose()


@pytest.mark.parametrize("how", ["changed", "shorter", "longer", "gone"])
async def test_a_damaged_source_publishes_nothing_and_says_what_is_damaged(
    made: Made, registry: FakeRegistry, tmp_path: Path, how: str
) -> None:
    folder = made.write(tmp_path / "a")
    layer = next(digest for digest, content in made.blobs.items() if len(content) > 100_000)
    path = folder / "blobs/sha256" / layer.hex
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"changed": bytes(len(content)), "shorter": content[:-1], "longer": content + b"x"}[how])
    for target in (repository(registry), LayoutPlace(tmp_path / "b"), OciArchivePlace(tmp_path / "x.tar")):
        with pytest.raises(NotFound if how == "gone" else Damaged, match=str(layer)) as caught:
            await copy(LayoutPlace(folder), target, [("1", "1")])
        assert f"oci:{folder}" in caught.value.message
        await target.aclose()
    assert registry.manifests == {}
    assert not (tmp_path / "b/index.json").exists()
    assert not (tmp_path / "x.tar").exists()
    assert not list((tmp_path / "b/blobs").glob(f"*/{layer.hex}"))


async def test_a_damaged_manifest_is_found(made: Made, tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a")
    (folder / "blobs/sha256" / made.listed[0].digest.hex).write_bytes(Index.build([]).raw)
    with pytest.raises(Damaged, match=str(made.listed[0].digest)):
        await copy(LayoutPlace(folder), LayoutPlace(tmp_path / "b"), [("1", "1")])


def hidden_files(folder: Path) -> list[Path]:
    return list(folder.glob(".x.tar*"))


class Slow(LayoutPlace):
    """A layout that stops in the middle of a large blob until it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reached, self.starts = asyncio.Event(), list[int]()
        self.stops = True

    async def open_blob(self, descriptor: Descriptor, start: int = 0) -> AsyncGenerator[bytes, None]:
        if descriptor.size < 1_000_000:
            async for piece in super().open_blob(descriptor, start):
                yield piece
            return
        self.starts.append(start)
        content = (self.folder / "blobs/sha256" / descriptor.digest.hex).read_bytes()
        if self.stops:
            yield content[:2_500_000]
            self.reached.set()
            await asyncio.Event().wait()
        yield content[start:]


async def test_a_copy_that_was_interrupted_names_nothing_and_goes_on_where_it_was(tmp_path: Path) -> None:
    made = Made()
    made.name(made.image(size=3_000_000), "1")
    source = Slow(made.write(tmp_path / "a"))
    for target in (LayoutPlace(tmp_path / "b"), OciArchivePlace(tmp_path / "x.tar")):
        source.stops, source.reached = True, asyncio.Event()
        task = asyncio.create_task(copy(source, target, [("1", "1")]))
        await source.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(NotFound):
            await target.resolve("1")
        source.stops = False
        result = await copy(source, target, [("1", "1")])
        assert source.starts[-1] == 2_500_000
        assert result.sent_bytes < 1_000_000
        source.starts.clear()
        if target.name.startswith("oci:"):
            assert content_of(tmp_path / "b") == content_of(tmp_path / "a")
            assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["blobs", "index.json", "oci-layout"]
        else:
            assert not hidden_files(tmp_path)


async def test_a_partial_download_that_is_rotten_is_fetched_anew(made: Made, tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a")
    layer = next(digest for digest, content in made.blobs.items() if len(content) > 100_000)
    (tmp_path / "b/.partial").mkdir(parents=True)
    (tmp_path / "b/.partial" / f"sha256-{layer.hex}").write_bytes(b"rotten")
    await copy(LayoutPlace(folder), LayoutPlace(tmp_path / "b"), [("1", "1")])
    assert (tmp_path / "b/blobs/sha256" / layer.hex).read_bytes() == made.blobs[layer]


async def test_many_copies_into_one_layout_at_once_all_succeed(made: Made, tmp_path: Path) -> None:
    source = LayoutPlace(made.write(tmp_path / "a"))
    await asyncio.gather(*(copy(source, LayoutPlace(tmp_path / "b"), [("1", f"t{n}")]) for n in range(8)))
    assert await LayoutPlace(tmp_path / "b").tags() == [f"t{n}" for n in range(8)]
    assert content_of(tmp_path / "b").items() <= content_of(tmp_path / "a").items()
    assert not list((tmp_path / "b").rglob("*.part*"))


async def test_the_digest_that_the_target_promises_is_kept(made: Made, tmp_path: Path) -> None:
    source, wrong = LayoutPlace(made.write(tmp_path / "a")), Digest.of(b"other")
    with pytest.raises(Invalid, match=f"{wrong} was asked for"):
        await copy(source, LayoutPlace(tmp_path / "b"), [("1", "1")], expected=wrong)


async def test_a_docker_archive_holds_one_platform(made: Made, tmp_path: Path) -> None:
    source = LayoutPlace(made.write(tmp_path / "a"))
    archive = DockerArchivePlace(tmp_path / "d.tar")
    with pytest.raises(Invalid, match="name one with --platform, as linux/amd64"):
        await copy(source, archive, [("1", "a:1")])
    result = await copy(source, archive, [("1", "a:1")], platform=Platform("linux", "amd64"))
    # It is read back as what it was written as, and its layers are unpacked.
    again = DockerArchivePlace(tmp_path / "d.tar")
    assert (await again.resolve("a:1")).digest == result.digests["a:1"]
    assert (await again.resolve("docker.io/library/a:1")).digest == result.digests["a:1"]
    back = await copy(again, LayoutPlace(tmp_path / "b"), [("a:1", "1")])
    assert back.digests["1"] == result.digests["a:1"]
    await again.aclose()
    await archive.aclose()


async def test_the_same_images_give_the_same_archives(made: Made, tmp_path: Path) -> None:
    source = LayoutPlace(made.write(tmp_path / "a"))
    for name in ("one", "two"):
        await copy(source, OciArchivePlace(tmp_path / f"{name}.tar"), [("1", "1")])
        target = DockerArchivePlace(tmp_path / f"{name}.docker")
        await copy(source, target, [("1", "a:1")], platform=Platform("linux", "amd64"))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert (tmp_path / "one.docker").read_bytes() == (tmp_path / "two.docker").read_bytes()


# What a hostile source may hold


async def test_an_image_nested_too_deep_is_refused(tmp_path: Path) -> None:
    made = Made()
    top: Index = made.index(made.image())
    for _ in range(10):
        top = made.index(top)
    made.name(top, "1")
    with pytest.raises(Invalid, match="deeper than 8"):
        await copy(LayoutPlace(made.write(tmp_path / "a")), LayoutPlace(tmp_path / "b"), [("1", "1")])


async def test_an_index_that_names_the_same_again_and_again_is_walked_once(tmp_path: Path) -> None:
    made = Made()
    top: Index = made.index(made.image())
    for _ in range(6):
        top = made.index(*[top] * 1000)
    made.name(top, "1")
    result = await copy(LayoutPlace(made.write(tmp_path / "a")), LayoutPlace(tmp_path / "b"), [("1", "1")])
    assert result.manifests == 8
    assert await choose_platform(
        LayoutPlace(tmp_path / "b"), await LayoutPlace(tmp_path / "b").resolve("1"), Platform("linux", "amd64")
    )


async def test_an_image_without_an_index_is_refused_for_another_platform(tmp_path: Path) -> None:
    made = Made()
    made.name(made.image("amd64"), "1")
    source = LayoutPlace(made.write(tmp_path / "a"))
    top = await source.resolve("1")
    assert await choose_platform(source, top, Platform("linux", "amd64")) == top
    with pytest.raises(Invalid, match="no image for linux/arm64: it was built for linux/amd64"):
        await copy(source, LayoutPlace(tmp_path / "b"), [("1", "1")], platform=Platform("linux", "arm64"))


async def test_sizes_that_nobody_has_are_refused(tmp_path: Path) -> None:
    made = Made()
    image = made.image()
    document = json.loads(image.raw)
    document["layers"][0]["size"] = 2**62
    raw = canonical_json(document)
    made.listed.append(made.keep(image.media_type, raw))
    with pytest.raises(Invalid, match="claims"):
        await copy(LayoutPlace(made.write(tmp_path / "a")), LayoutPlace(tmp_path / "b"), [("", "1")])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("oci-layout", b"{}"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'),
        ("index.json", b"[]"),
        ("index.json", b"[" * 100_000),
        ("index.json", b" " * 5_000_000),
        ("index.json", b'{"schemaVersion":2,"manifests":[{"digest":"../../etc/passwd","size":1,"mediaType":"a/b"}]}'),
    ],
)
async def test_layouts_that_cannot_be_are_refused(made: Made, tmp_path: Path, name: str, content: bytes) -> None:
    folder = made.write(tmp_path / "a")
    (folder / name).write_bytes(content)
    with pytest.raises(Invalid):
        await LayoutPlace(folder).resolve("1")


async def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(made: Made, tmp_path: Path) -> None:
    folder = made.write(tmp_path / "a")
    for name in ("index.json", f"blobs/sha256/{made.listed[0].digest.hex}"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(SanderlingError):
            await copy(LayoutPlace(folder), LayoutPlace(tmp_path / "b"), [("1", "1")])
        (folder / name).unlink()
        (folder / name).write_bytes(content)


async def test_a_folder_that_is_something_else_is_not_written_into(made: Made, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").write_text("dear")
    with pytest.raises(Invalid, match="is no OCI layout; name another folder"):
        await copy(LayoutPlace(made.write(tmp_path / "a")), LayoutPlace(tmp_path / "home"), [("1", "1")])
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter"]
