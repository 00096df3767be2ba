"""Steps in whole builds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sanderling.dockerfile import DockerfileInvalid
from sanderling.image import BuildSettings, Log, Recipe, SourceFile, build
from sanderling.image.layout import write_layout
from sanderling.oci import Platform
from tests.image.unpack import run, unpack

Given = Callable[..., Recipe]


@pytest.fixture
def given(tmp_path: Path, score: Path) -> Given:
    """A recipe with a Dockerfile and one file beside it."""

    def make(dockerfile: str, *platforms: str) -> Recipe:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        (tmp_path / "a.txt").write_text("hello")
        return Recipe(
            "demo/digits:1",
            SourceFile("score.py", score),
            dockerfile=SourceFile("Dockerfile", tmp_path / "Dockerfile"),
            context=(SourceFile("conf/a.txt", tmp_path / "a.txt"),),
            platforms=tuple(map(Platform.parse, platforms or ("linux/amd64",))),
        )

    return make


def test_a_recipe_survives_json(given: Given) -> None:
    recipe = given("COPY conf /opt/conf")
    assert Recipe.from_json(recipe.to_json()) == recipe
    old = {key: value for key, value in recipe.to_json().items() if key not in ("dockerfile", "context")}
    assert Recipe.from_json(old).dockerfile is None


def test_a_bad_step_is_refused_before_anything_is_fetched(given: Given, tmp_path: Path, log: Log) -> None:
    with pytest.raises(DockerfileInvalid, match="Dockerfile, line 2: COPY gone: no such file"):
        build(given("ENV A=1\nCOPY gone /x"), BuildSettings(tmp_path / "cache"), log)
    assert not (tmp_path / "cache").exists()


@pytest.mark.network
@pytest.mark.timeout(600)
def test_the_image_has_them_on_top_and_still_scores(given: Given, tmp_path: Path, shared_cache: Path, log: Log) -> None:
    wanted = given(
        "COPY conf/a.txt /bin/said\nENV SAID=/bin/said\nWORKDIR /srv\nUSER nobody", "linux/amd64", "linux/arm64"
    )
    image, blobs = build(wanted, BuildSettings(shared_cache), log)
    assert [m.layers[-1].annotations["io.sanderling.layer"] for m in image.manifests] == ["WORKDIR /srv"] * 2
    assert image.manifests[0].layers[-2].digest == image.manifests[1].layers[-2].digest
    assert build(wanted, BuildSettings(shared_cache), log)[0].descriptor == image.descriptor
    write_layout(image, blobs, tmp_path / "out", "demo/digits:1")
    config = unpack(tmp_path / "out", tmp_path / "root")
    assert (config["config"]["User"], config["config"]["WorkingDir"]) == ("65534:65534", "/srv")
    assert (tmp_path / "root" / "bin").is_symlink()
    code = "import os; print(open(os.environ['SAID']).read(), os.getcwd())"
    assert run(tmp_path / "root", config, "/usr/bin/python3", "-c", code) == "hello /srv\n"
    run(tmp_path / "root", config, *config["config"]["Entrypoint"], "--check")
