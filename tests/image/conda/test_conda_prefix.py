"""Whole images with conda packages: a real Python from a channel, and wheels that fit to it."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sanderling.image import BuildSettings, Event, Log, ModelFiles, Recipe, SourceFile, build
from sanderling.image.conda.solve_errors import CondaUnsolvable
from sanderling.image.layout import write_layout
from sanderling.oci import Platform
from tests.image.conda.conftest import AMD64, ARM64
from tests.image.conda.packages import PLACEHOLDER, CondaPackage, File, fake_python, make_channel, real_python
from tests.image.unpack import read_image, run, unpack

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

    def test_the_same_packages_give_the_same_digest_from_another_folder_and_cache(
        self, tmp_path: Path, shared_cache: Path, write: WriteRecipe, channel: str, log: Log
    ) -> None:
        wanted = write("alpha", "native")
        first, _ = build(wanted, BuildSettings(shared_cache), log)
        other = tmp_path / "other"
        shutil.copytree(shared_cache / "downloads", other / "downloads")
        shutil.copytree(shared_cache / "base", other / "base")
        elsewhere = tmp_path / "elsewhere" / "channel"
        shutil.copytree(channel.removeprefix("file://"), elsewhere)
        assert wanted.environment is not None
        path = wanted.environment.source
        path.write_text(path.read_text().replace(channel, elsewhere.as_uri()))
        again, _ = build(wanted, BuildSettings(other, "http://127.0.0.1:9/debian", "http://127.0.0.1:9/s"), log)
        assert again.descriptor == first.descriptor

    def test_two_platforms_share_what_has_no_processor(
        self, tmp_path: Path, shared_cache: Path, write: WriteRecipe, log: Log
    ) -> None:
        wanted = write("python=3.11", "alpha", "native", platforms=(AMD64, ARM64))
        image, blobs = build(wanted, BuildSettings(shared_cache), log)
        amd64, arm64 = ({layer.annotations["io.sanderling.layer"] for layer in m.layers} for m in image.manifests)
        write_layout(image, blobs, tmp_path / "out", "x")
        assert f"conda python {sys.version.split()[0]}" in amd64
        manifest, _ = read_image(tmp_path / "out")
        assert len(manifest["layers"]) == len(amd64)
        assert arm64

    def test_what_cannot_be_solved_leaves_no_image(self, tmp_path: Path, write: WriteRecipe, log: Log) -> None:
        with pytest.raises(CondaUnsolvable, match="'alpah'"):
            build(write("alpah"), BuildSettings(tmp_path / "cache"), log)
        assert not (tmp_path / "cache" / "layers").exists()
