"""A whole build upon an image that was built before: pushed, taken as a base, built upon, pushed, unpacked, run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sanderling.image import BuildSettings, Event, Log, PushTarget, Recipe, SourceFile, build
from sanderling.image.layout import write_layout
from sanderling.image.service.worker import build_and_publish
from sanderling.oci import Digest
from tests.image.unpack import run, unpack
from tests.registry_process import RegistryProcess, running_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path_factory.mktemp("registry") / "data") as running:
        yield running


def publish(
    recipe: Recipe, repository: str, registry: RegistryProcess, cache: Path, log: Log
) -> tuple[Any, int, dict[str, str]]:
    """Build and push as the build service's worker does; secrets come beside the description."""
    ca = Path(registry.told["ca"])
    target = PushTarget(registry.login_server, repository, "1", "admin", registry.password, ca=ca)
    spec = {"recipe": recipe.to_json(), "cache": str(cache), "output": {"push": target.to_json()}}
    done = build_and_publish(spec, target.secrets(), log)
    image, sent = done.image, done.sent_bytes
    return image, sent, target.secrets()


@pytest.mark.network
@pytest.mark.timeout(600)
def test_an_image_upon_an_image_of_the_same_registry_runs_and_sends_only_what_is_new(
    tmp_path: Path,
    shared_cache: Path,
    score: Path,
    model: Path,
    log: Log,
    events: list[Event],
    registry: RegistryProcess,
) -> None:
    lower = Recipe("demo/base:1", SourceFile("score.py", score), files=(SourceFile("extra.txt", model),))
    under, _, secrets = publish(lower, "demo/base", registry, shared_cache, log)
    own = tmp_path / "own.py"
    own.write_text("def init(): pass\ndef run(raw_data): return 'upon ' + raw_data\n")
    name = f"{registry.login_server}/demo/base:1"
    upper = Recipe("demo/upon:1", SourceFile("own.py", own), base=name)
    # A cache of its own: nothing is known of what the registry has.
    image, sent, _ = publish(upper, "demo/upon", registry, tmp_path / "cache", log)
    bases = [layer.digest for layer in under.manifests[0].layers]
    assert [layer.digest for layer in image.manifests[0].layers][: len(bases)] == bases
    assert sent < 1_000_000
    assert image.bases[0]["digest"] == str(under.descriptor.digest)
    annotations = json.loads(image.manifests[0].raw)["annotations"]
    assert annotations["org.opencontainers.image.base.name"] == name
    assert annotations["org.opencontainers.image.base.digest"] == str(under.descriptor.digest)
    again, blobs = build(upper, BuildSettings(tmp_path / "cache", registries=(_target(registry),)), log)
    assert again.descriptor == image.descriptor
    write_layout(again, blobs, tmp_path / "out", "x")
    config = unpack(tmp_path / "out", tmp_path / "root")
    code = "import sanderling_scoring, sys; print(sanderling_scoring.__file__, open('extra.txt').read(7))"
    out = run(tmp_path / "root", config, "/usr/bin/python3", "-c", code)
    assert out == "/usr/local/lib/python3.11/dist-packages/sanderling_scoring/__init__.py a model\n"
    assert config["config"]["User"] == "65532:65532"
    everything = json.dumps([event.to_json() for event in events]) + json.dumps(list(image.bases)) + str(config)
    assert secrets["password"] not in everything


@pytest.mark.network
@pytest.mark.timeout(600)
def test_upon_a_pinned_base_that_is_in_the_cache_nothing_is_asked_of_a_registry(
    tmp_path: Path, shared_cache: Path, score: Path, log: Log, registry: RegistryProcess
) -> None:
    under, _, _ = publish(
        Recipe("demo/pinned:1", SourceFile("score.py", score)), "demo/pinned", registry, shared_cache, log
    )
    digest: Digest = under.descriptor.digest
    upper = Recipe("demo/upon:1", SourceFile("score.py", score), base=f"{registry.login_server}/demo/pinned@{digest}")
    first, _ = build(upper, BuildSettings(tmp_path / "cache", registries=(_target(registry),)), log)
    nobody = PushTarget("127.0.0.1:9", shown_as=registry.login_server)
    again, _ = build(upper, BuildSettings(tmp_path / "cache", registries=(nobody,)), log)
    assert again.descriptor == first.descriptor


def _target(registry: RegistryProcess) -> PushTarget:
    ca = Path(registry.told["ca"])
    return PushTarget(registry.login_server, username="admin", password=registry.password, ca=ca)
