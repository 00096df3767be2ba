"""Whole images with conda packages: a real Python from a channel, and wheels that fit to it."""

import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.image import BuildSettings, Event, Log, ModelFiles, Recipe, SourceFile, build
from sanderling.image.conda.conda_prefix import CondaPrefix
from sanderling.image.conda.solve_errors import CondaUnsolvable
from sanderling.image.downloads import Downloads
from sanderling.image.environment.conda_part import CondaPart
from sanderling.image.layers.bytecode import find_compiler
from sanderling.image.layers.grouping import OWN_LAYER_BYTES
from sanderling.image.layers.store import LayerStore, Made, check_paths
from sanderling.image.layout import write_layout
from sanderling.oci import Platform
from tests.image.conda.conftest import AMD64, ARM64
from tests.image.conda.packages import PLACEHOLDER, CondaPackage, File, fake_python, make_channel, real_python
from tests.image.unpack import run, unpack

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE = f"lib/python{MINOR}/site-packages"


def distribution(name: str, version: str, **more: object) -> CondaPackage:
    """A package for Python with the record that says so."""
    files: dict[str, File | bytes] = {
        f"site-packages/{name}.py": f"version = {version!r}\n\ndef main():\n    print('{name} runs')\n".encode(),
        f"site-packages/{name}-{version}.dist-info/METADATA": f"Name: {name}\nVersion: {version}\n".encode(),
    }
    return CondaPackage(
        name, version, noarch="python", depends=("python",), files=files, commands=(f"{name} = {name}:main",)
    )


def native(subdir: str) -> CondaPackage:
    old = PLACEHOLDER.encode()
    files: dict[str, File | bytes] = {
        "lib/libnative.so": File(b"\x7fELF\0" + old + b"/lib\0" + subdir.encode(), executable=True, prefix="binary"),
        "etc/native.conf": File(b"root=" + old + b"\n", prefix="text"),
        "bin/.native-post-link.sh": File(b"touch /tmp/it-ran\n", executable=True),
    }
    return CondaPackage("native", "1.0", subdir=subdir, files=files, ending=".tar.bz2")


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_channel(
        tmp_path_factory.mktemp("conda") / "channel",
        real_python(),
        fake_python("3.11.7", "linux-aarch64"),
        distribution("alpha", "1.0"),
        native("linux-64"),
        native("linux-aarch64"),
    )


WriteRecipe = Callable[..., Recipe]


@pytest.fixture
def write(tmp_path: Path, score: Path, model: Path, channel: str) -> WriteRecipe:
    """A recipe whose environment has *conda* lines and *pip* lines."""

    def call(*conda: str, pip: tuple[str, ...] = (), platforms: tuple[Platform, ...] = (AMD64,)) -> Recipe:
        lines = ["name: digits", "channels:", f"  - {channel}", "dependencies:", *(f"  - {line}" for line in conda)]
        lines += ["  - pip:", *(f"    - {line}" for line in pip)] if pip else []
        path = tmp_path / "myenv.yml"
        path.write_text("\n".join(lines) + "\n")
        return Recipe(
            "demo/digits:1",
            SourceFile("score.py", score),
            SourceFile("myenv.yml", path),
            models=(ModelFiles("digits", 1, {"model.pkl": model}),),
            platforms=platforms,
        )

    return call


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(600)
class TestImages:
    def test_python_and_packages_of_a_channel_run_with_wheels_that_fit(
        self,
        tmp_path: Path,
        shared_cache: Path,
        write: WriteRecipe,
        log: Log,
        events: list[Event],
        make_index: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("UV_DEFAULT_INDEX", make_index(("beta", "2.0", ["alpha>=1"]), ("alpha", "3.0", [])))
        wanted = write("python", "alpha", "native", "pip", pip=("azureml-defaults", "beta"))
        image, blobs = build(wanted, BuildSettings(shared_cache), log)
        write_layout(image, blobs, tmp_path / "out", "x")
        config = unpack(tmp_path / "out", tmp_path / "root")
        assert config["config"]["Entrypoint"] == ["/opt/conda/bin/python3", "-m", "sanderling_scoring"]
        assert any(variable.startswith("PATH=/opt/conda/bin:") for variable in config["config"]["Env"])
        code = (
            "import alpha, beta, json, sys, sqlite3, ssl, sanderling_scoring, importlib.metadata as m; "
            "print(json.dumps([sys.prefix, alpha.version, beta.version, m.version('alpha'), alpha.__cached__]))"
        )
        found = json.loads(run(tmp_path / "root", config, "/opt/conda/bin/python3", "-c", code))
        cached = f"/opt/conda/{SITE}/__pycache__/alpha.cpython-{MINOR.replace('.', '')}.pyc"
        assert found == ["/opt/conda", "1.0", "2.0", "1.0", cached]
        assert (tmp_path / "root" / cached.lstrip("/")).exists()
        assert run(tmp_path / "root", config, "alpha") == "alpha runs\n"
        assert run(tmp_path / "root", config, "where-python") == "/opt/conda\n"
        assert (tmp_path / "root/opt/conda/etc/native.conf").read_text() == "root=/opt/conda\n"
        record = json.loads((tmp_path / "root/opt/conda/conda-meta/alpha-1.0-0.json").read_text())
        assert (record["channel"], record["url"]) == ("channel", "")
        warned = [event.text for event in events if event.level == "warning"]
        assert any("native has a link script" in text for text in warned)
        assert not (tmp_path / "root/tmp/it-ran").exists()


def test_what_cannot_be_solved_leaves_no_image(tmp_path: Path, write: WriteRecipe, log: Log) -> None:
    with pytest.raises(CondaUnsolvable, match="'alpah'"):
        build(write("alpah"), BuildSettings(tmp_path / "cache"), log)
    assert not (tmp_path / "cache" / "layers").exists()


class TestLayers:
    @pytest.fixture
    def small_channel(self, tmp_path: Path) -> str:
        return make_channel(
            tmp_path / "small",
            fake_python("3.11.7"),
            fake_python("3.11.7", "linux-aarch64"),
            distribution("alpha", "1.0"),
            native("linux-64"),
            native("linux-aarch64"),
            CondaPackage("data", "1.0", noarch="generic", files={"share/data": bytes(OWN_LAYER_BYTES)}),
            CondaPackage("first", files={"share/same": b"of the first"}),
            CondaPackage("second", files={"share/same": b"of the second", "share/big": bytes(OWN_LAYER_BYTES)}),
        )

    def test_the_same_packages_give_the_same_layers_from_another_folder_and_cache(
        self, tmp_path: Path, small_channel: str, log: Log
    ) -> None:
        elsewhere = tmp_path / "elsewhere" / "small"
        shutil.copytree(small_channel.removeprefix("file://"), elsewhere)
        first = make(tmp_path / "a", small_channel, log, "alpha", "native", "data")[AMD64]
        second = make(tmp_path / "b", elsewhere.as_uri(), log, "alpha", "native", "data")[AMD64]
        assert [made.layer for made in first] == [made.layer for made in second]
        assert {made.was_cached for made in (*first, *second)} == {False}

    def test_a_second_image_finds_the_layers_of_the_first(self, tmp_path: Path, small_channel: str, log: Log) -> None:
        make(tmp_path / "a", small_channel, log, "data", "alpha")
        again = make(tmp_path / "a", small_channel, log, "data", "native")[AMD64]
        assert {made.layer.title: made.was_cached for made in again} == {
            "conda data 1.0": True,
            "2 small conda packages": False,
        }

    def test_what_has_no_processor_is_one_layer_for_all_platforms(
        self, tmp_path: Path, small_channel: str, log: Log
    ) -> None:
        made = make(tmp_path / "a", small_channel, log, "data", "native", platforms=(AMD64, ARM64))
        amd64, arm64 = ({each.layer.title: each.layer.digest for each in made[p]} for p in (AMD64, ARM64))
        assert amd64["conda data 1.0"] == arm64["conda data 1.0"]
        assert amd64["2 small conda packages"] != arm64["2 small conda packages"]

    def test_of_two_packages_with_one_file_the_later_layer_wins_and_it_is_told(
        self, tmp_path: Path, small_channel: str, log: Log, events: list[Event]
    ) -> None:
        made = make(tmp_path / "a", small_channel, log, "first", "second")[AMD64]
        owners = [each.layer.title for each in made if "opt/conda/share/same" in each.files]
        assert owners == ["2 small conda packages"]
        check_paths(made)
        assert any("both bring /opt/conda/share/same" in event.text for event in events if event.level == "warning")


def make(
    cache: Path, channel: str, log: Log, *specs: str, platforms: tuple[Platform, ...] = (AMD64,)
) -> dict[Platform, list[Made]]:
    """The layers of conda's packages alone."""
    prefix = CondaPrefix.solved(CondaPart((channel,), specs), platforms, (2, 36), cache, log)
    with closing(Downloads(FileBlobs(cache / "downloads"), log)) as downloads, ThreadPoolExecutor(2) as pool:
        started = prefix.start(downloads, LayerStore(cache, log, find_compiler("3.11")), pool, 8)
        return {platform: prefix.settle([f.result() for f in futures]) for platform, futures in started.items()}
