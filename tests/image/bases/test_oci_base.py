"""Images of a real registry as bases; the registry is ours, with TLS and a password, in a process of its own."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.errors import Denied, NotFound, Unavailable
from sanderling.image import Event, Log, PushTarget
from sanderling.image.bases.fetch import BaseImages, PlatformMissing
from sanderling.image.bases.oci_base import OciBase
from sanderling.image.bases.pythons import BaseRefused
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.store import LayerStore
from sanderling.oci import Digest, Manifest, Platform, media_types
from sanderling.transfer import Patience
from tests.image.bases.images import MadeImage, pack, python_files, tar_of
from tests.registry_process import running_registry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
QUICK = Patience(attempts=2, first_pause_s=0.01)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushTarget]:
    with running_registry(tmp_path_factory.mktemp("registry") / "data") as registry:
        yield PushTarget(
            registry.login_server, username="admin", password=registry.password, ca=Path(registry.told["ca"])
        )


class World:
    def __init__(self, folder: Path, target: PushTarget, log: Log) -> None:
        self.cache, self.target, self.log = folder / "cache", target, log
        self.blobs = FileBlobs(self.cache / "layers")
        self.folder = folder

    def push(self, image: MadeImage, name: str) -> Digest:
        repository, _, tag = name.partition(":")
        return image.push(self.target, repository, tag, self.folder)

    def open(
        self, name: str, *platforms: Platform, target: PushTarget | None = None, version: str | None = None
    ) -> OciBase:
        def choose(possible: Sequence[Interpreter]) -> Interpreter:
            return next(p for p in possible if version in (None, p.version))

        images = BaseImages(self.cache, self.blobs, self.log, [target or self.target], QUICK)
        reference = f"{self.target.registry}/{name}"
        return OciBase.open(reference, platforms or (AMD64,), images, self.cache, self.blobs, choose, self.log)


@pytest.fixture
def world(tmp_path: Path, target: PushTarget, log: Log) -> World:
    return World(tmp_path, target, log)


def test_a_base_gives_its_layers_as_they_are_and_says_what_it_is(
    world: World, log: Log, events: list[Event], request: pytest.FixtureRequest
) -> None:
    image = MadeImage()
    settings = {
        "Env": ["PATH=/usr/local/bin:/usr/bin", "LANG=C.UTF-8", "GPG_KEY=x"],
        "User": "app",
        "Labels": {"maintainer": "m", "org.opencontainers.image.title": "python", "io.sanderling.image": "old"},
        "Volumes": {"/data": {}},
    }
    kinds = [
        media_types.OCI_LAYER_GZIP,
        media_types.OCI_LAYER_ZSTD,
        media_types.OCI_LAYER,
        media_types.DOCKER_LAYER_GZIP,
        media_types.DOCKER_LAYER,
    ]
    layers = [python_files(), *({f"n{n}": b"x" * n} for n in range(1, 5))]
    manifest = image.add(layers, settings=settings, layer_types=kinds)
    digest = world.push(image, "demo/kinds:1")
    maker = world.open("demo/kinds:1")
    assert maker.python == Interpreter("3.12", "usr/local", "usr/local/lib/python3.12/site-packages", (2, 36))
    base = maker.make(AMD64, LayerStore(world.cache, log, None))
    made = [made.layer for made in base.layers]
    assert [layer.digest for layer in made] == [layer.digest for layer in manifest.layers]
    assert [layer.diff_id for layer in made] == [Digest.of(tar_of(files)) for files in layers]
    assert [layer.plain_bytes for layer in made] == [len(tar_of(files)) for files in layers]
    # Docker's names for the same bytes become OCI's: not every client takes a mixture.
    assert [layer.media_type for layer in made] == [*kinds[:3], media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER]
    assert all(Digest.of(world.blobs.read(layer.digest)) == layer.digest for layer in made)
    assert base.env == {"PATH": "/usr/local/bin:/usr/bin", "LANG": "C.UTF-8", "GPG_KEY": "x"}
    assert base.user == "1000:1001"
    assert base.labels == {"maintainer": "m"}
    name = f"{world.target.registry}/demo/kinds:1"
    assert base.annotations == {
        "org.opencontainers.image.base.name": name,
        "org.opencontainers.image.base.digest": str(digest),
    }
    assert (base.record["digest"], base.record["manifest"]) == (str(digest), str(manifest.digest))
    told = "\n".join(event.text for event in events)
    assert f"{name} is {digest}" in told
    assert "Python 3.12 (/usr/local/bin/python3), glibc 2.36, 5 layers" in told
    assert "the base's volumes are of its own process" in told
    assert world.target.password not in told + json.dumps(base.record)


def test_of_an_index_the_wanted_platforms_are_taken_and_a_missing_one_is_refused_with_those_there_are(
    world: World,
) -> None:
    image = MadeImage()
    image.add([python_files()], "linux/amd64")
    image.add([python_files(architecture="arm64")], "linux/arm64")
    image.index("linux/amd64", "linux/arm64")
    world.push(image, "demo/index:1")
    maker = world.open("demo/index:1", AMD64, ARM64)
    assert maker.python.version == "3.12"
    with pytest.raises(PlatformMissing, match=r"not there for linux/arm/v7: it is there for linux/amd64, linux/arm64"):
        world.open("demo/index:1", Platform("linux", "arm", "v7"))


def test_of_the_variants_of_32_bit_arm_the_wanted_one_is_taken(world: World) -> None:
    image = MadeImage()
    for number, platform in enumerate(("linux/arm/v5", "linux/arm/v7")):
        image.add([python_files(architecture="arm"), {f"etc/{number}": b""}], platform)
    image.index("linux/arm/v5", "linux/arm/v7")
    world.push(image, "demo/variants:1")
    wanted = Platform("linux", "arm", "v7")
    maker = world.open("demo/variants:1", wanted)
    base = maker.make(wanted, LayerStore(world.cache, world.log, None))
    assert base.record["manifest"] == str(image.manifests[1].digest)
    assert maker.python.glibc == (2, 36)


def test_an_image_for_one_platform_is_no_base_for_another(world: World) -> None:
    image = MadeImage()
    image.add([python_files()])
    world.push(image, "demo/single:1")
    with pytest.raises(PlatformMissing, match="it is there for linux/amd64"):
        world.open("demo/single:1", ARM64)


def test_platforms_with_other_pythons_are_refused_and_the_oldest_glibc_counts(world: World) -> None:
    arm = python_files(architecture="arm64")
    arm["usr/lib/aarch64-linux-gnu/libc.so.6"] = b"GNU C Library (X) stable release version 2.31.\n"
    image = MadeImage()
    image.add([python_files()], "linux/amd64")
    image.add([arm], "linux/arm64")
    image.index("linux/amd64", "linux/arm64")
    world.push(image, "demo/glibc:1")
    assert world.open("demo/glibc:1", AMD64, ARM64).python.glibc == (2, 31)
    other = MadeImage()
    other.add([python_files()], "linux/amd64")
    other.add([python_files("3.13", architecture="arm64")], "linux/arm64")
    other.index("linux/amd64", "linux/arm64")
    world.push(other, "demo/others:1")
    with pytest.raises(BaseRefused, match="other Pythons on each platform"):
        world.open("demo/others:1", AMD64, ARM64)


def test_a_base_that_is_here_is_not_fetched_again_and_with_its_digest_needs_no_registry(world: World) -> None:
    image = MadeImage()
    image.add([python_files()])
    digest = world.push(image, "demo/offline:1")
    first = world.open("demo/offline:1")
    nowhere = replace(world.target, registry="127.0.0.1:9", shown_as=world.target.registry)
    pinned = world.open(f"demo/offline:1@{digest}", target=nowhere)
    assert (pinned.digest, pinned.python) == (first.digest, first.python)


def test_a_tag_means_what_it_meant_last_when_the_registry_does_not_answer(world: World, events: list[Event]) -> None:
    image = MadeImage()
    image.add([python_files()])
    digest = world.push(image, "demo/moved:1")
    nowhere = replace(world.target, registry="127.0.0.1:9", shown_as=world.target.registry)
    with pytest.raises(Unavailable):
        world.open("demo/moved:1", target=nowhere)
    world.open("demo/moved:1")
    assert world.open("demo/moved:1", target=nowhere).digest == digest
    assert f"meant last is used: {digest}" in [event.text for event in events if event.level == "warning"][-1]
    changed = MadeImage()
    changed.add([python_files("3.13")])
    world.push(changed, "demo/moved:1")
    assert world.open("demo/moved:1").python.version == "3.13"


def test_a_base_that_is_not_there_or_may_not_be_read_is_named(world: World) -> None:
    with pytest.raises(NotFound, match="demo/nothing:1 is not there"):
        world.open("demo/nothing:1")
    with pytest.raises(Denied):
        world.open("demo/nothing:1", target=replace(world.target, password="wrong"))


def test_the_python_that_was_wished_for_is_taken_of_several(world: World) -> None:
    files = {**python_files("3.12"), **python_files("3.10"), "usr/local/bin/python3": "python3.12"}
    image = MadeImage()
    image.add([files])
    world.push(image, "demo/several:1")
    assert world.open("demo/several:1").python.executable == "/usr/local/bin/python3"
    assert world.open("demo/several:1", version="3.10").python.executable == "/usr/local/bin/python3.10"


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        ([b"no tar at all" * 100], {}, "is broken"),
        ([python_files(), {"usr/../../x": b""}], {}, "leads outside"),
        ([python_files()], {"diff_ids": ["sha256:" + "00" * 32]}, "its config promises sha256:0000"),
        ([python_files()], {"diff_ids": ["sha256:" + "00" * 32] * 2}, "1 layers, and its config speaks of 2"),
        ([{"etc/x": b""}], {}, "it has no Python"),
    ],
)
def test_a_broken_base_is_refused_and_leaves_no_memory(
    world: World, layers: list[dict[str, bytes | str | None] | bytes], options: dict[str, list[str]], words: str
) -> None:
    image = MadeImage()
    image.add(layers, **options)  # type: ignore[arg-type]  # parametrised
    world.push(image, "demo/broken:1")
    with pytest.raises(BaseRefused, match=words):
        world.open("demo/broken:1")
    assert not list((world.cache / "bases" / "roots").glob("*"))


def test_a_layer_of_another_kind_is_refused_by_its_name(world: World) -> None:
    image = MadeImage()
    image.add([python_files()], layer_types=[])
    layer = image.manifests[0].layers[0]
    odd = MadeImage()
    odd.blobs = image.blobs
    odd.top = Manifest.build(image.manifests[0].config, [replace(layer, media_type="application/vnd.odd.layer")])
    odd.manifests = [odd.top]
    world.push(odd, "demo/odd:1")
    with pytest.raises(BaseRefused, match=r"application/vnd\.odd\.layer"):
        world.open("demo/odd:1")


def test_a_damaged_base_layer_of_the_cache_is_fetched_again_when_it_is_gone(world: World) -> None:
    image = MadeImage()
    image.add([python_files()])
    digest = world.push(image, "demo/again:1")
    world.open("demo/again:1")
    layer = image.manifests[0].layers[0].digest
    world.blobs.delete(layer)
    world.open(f"demo/again:1@{digest}")
    assert Digest.of(world.blobs.read(layer)) == layer
    assert world.blobs.read(layer) == pack(tar_of(python_files()), media_types.OCI_LAYER_GZIP)
