"""Whole builds: with the package index and a Debian mirror the first time, from the shared cache after that."""

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, NotFound
from sanderling.image import (
    BuildSettings,
    EnvironmentInvalid,
    Log,
    ModelFiles,
    Recipe,
    ScriptInvalid,
    SourceFile,
    build,
)
from sanderling.image.assembly import Assembled
from sanderling.image.layout import DamagedLayer, write_layout
from sanderling.image.packages.uv_errors import NoWheels, ResolutionFailed
from sanderling.image.service.worker import build_and_publish
from sanderling.oci import Platform
from tests.image.packages.index_server import Index
from tests.image.unpack import command, read_image, run, unpack

SKLEARN_SCORE = b"""
import json, os, pickle
import numpy
from sklearn.linear_model import LogisticRegression

def init():
    global model
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.pkl"), "rb") as file:
        model = pickle.load(file)

def run(raw_data):
    return model.predict(numpy.array(json.loads(raw_data)["data"])).tolist()
"""
SKLEARN_ENVIRONMENT = b"""
name: project_environment
dependencies:
  - python=3.11
  - pip:
    - azureml-defaults
    - scikit-learn
"""


def recipe(score: Path, **changes: Any) -> Recipe:
    return Recipe("demo/digits:1", SourceFile("score.py", score), **changes)


def layers_of(image: Assembled) -> dict[str, str]:
    """Digest by title."""
    return {layer.annotations["io.sanderling.layer"]: layer.digest for m in image.manifests for layer in m.layers}


class TestBadInput:
    def test_a_script_without_run_is_refused_before_anything_is_fetched(self, tmp_path: Path, log: Log) -> None:
        script = tmp_path / "score.py"
        script.write_text("def init(): pass\n")
        with pytest.raises(ScriptInvalid, match=r"score\.py, line 1: the script has no function 'run'"):
            build(recipe(script), BuildSettings(tmp_path / "cache"), log)
        assert not (tmp_path / "cache").exists()

    def test_an_environment_that_is_no_yaml_is_refused_with_its_line(
        self, tmp_path: Path, score: Path, log: Log
    ) -> None:
        path = tmp_path / "myenv.yml"
        path.write_text("name: x\ndependencies: [\n")
        wanted = recipe(score, environment=SourceFile("myenv.yml", path))
        with pytest.raises(EnvironmentInvalid, match=r"myenv\.yml, line 3: this is no YAML"):
            build(wanted, BuildSettings(tmp_path / "cache"), log)

    def test_a_python_that_there_is_none_of_is_refused_with_its_line(
        self, tmp_path: Path, score: Path, log: Log
    ) -> None:
        path = tmp_path / "myenv.yml"
        wanted = recipe(score, environment=SourceFile("myenv.yml", path))
        path.write_text("dependencies:\n  - python=3.7\n")
        with pytest.raises(EnvironmentInvalid, match=r"myenv\.yml, line 2: 'python=3\.7': Debian 12 has 3\.11"):
            build(wanted, BuildSettings(tmp_path / "cache"), log)

    def test_a_missing_model_file_is_named_with_its_model(self, tmp_path: Path, score: Path, log: Log) -> None:
        wanted = recipe(score, models=(ModelFiles("digits", 3, {"model.pkl": tmp_path / "gone.pkl"}),))
        with pytest.raises(NotFound, match=r"'model\.pkl' of model 'digits' version 3 is not there"):
            build(wanted, BuildSettings(tmp_path / "cache"), log)

    def test_a_model_that_is_a_folder_or_leads_outside_is_refused(self, tmp_path: Path, score: Path, log: Log) -> None:
        wanted = recipe(score, models=(ModelFiles("digits", 3, {"model.pkl": tmp_path}),))
        with pytest.raises(Invalid, match="is no file that can be read"):
            build(wanted, BuildSettings(tmp_path / "cache"), log)
        with pytest.raises(Invalid, match="outside"):
            recipe(score, models=(ModelFiles("digits", 3, {"../score.py": score}),))

    def test_two_files_of_one_path_are_refused(self, score: Path) -> None:
        with pytest.raises(Invalid, match="there twice"):
            recipe(score, files=(SourceFile("score.py", score),))

    def test_a_platform_that_cannot_be_built_is_refused_with_those_that_can(self, score: Path) -> None:
        with pytest.raises(Invalid, match="possible are linux/amd64, linux/arm64"):
            recipe(score, platforms=(Platform("linux", "riscv64"),))


@pytest.mark.network
@pytest.mark.timeout(600)
class TestSmallImages:
    @pytest.fixture
    def settings(self, shared_cache: Path) -> BuildSettings:
        return BuildSettings(shared_cache)

    def test_an_image_without_packages_has_what_the_contract_says(
        self, tmp_path: Path, settings: BuildSettings, score: Path, model: Path, log: Log
    ) -> None:
        helper = tmp_path / "helper.sh"
        helper.write_text("#!/bin/sh\n")
        wanted = recipe(
            score,
            files=(SourceFile("tools/helper.sh", helper, executable=True),),
            models=(ModelFiles("digits", 3, {"model.pkl": model}),),
            tags={"team": "edge"},
            description="Reads digits",
        )
        image, blobs = build(wanted, settings, log)
        write_layout(image, blobs, tmp_path / "out", "demo/digits:1")
        config = unpack(tmp_path / "out", tmp_path / "root")
        settings_of = config["config"]
        assert settings_of["WorkingDir"] == "/var/azureml-app"
        assert settings_of["User"] == "65532:65532"
        assert settings_of["ExposedPorts"] == {"5001/tcp": {}}
        assert settings_of["Entrypoint"] == ["/usr/bin/python3", "-m", "sanderling_scoring"]
        assert "AZUREML_MODEL_DIR=/var/azureml-app/azureml-models/digits/3" in settings_of["Env"]
        assert "AZUREML_ENTRY_SCRIPT=score.py" in settings_of["Env"]
        assert settings_of["Labels"]["io.sanderling.image"] == "demo/digits:1"
        assert settings_of["Labels"]["io.sanderling.port-variable"] == "SERVER_PORT"
        assert settings_of["Labels"]["io.sanderling.tag.team"] == "edge"
        assert settings_of["Labels"]["org.opencontainers.image.description"] == "Reads digits"
        application = tmp_path / "root" / "var" / "azureml-app"
        assert (application / "azureml-models/digits/3/model.pkl").read_bytes() == model.read_bytes()
        assert (application / "tools/helper.sh").stat().st_mode & 0o777 == 0o755
        assert json.dumps(config).count("1970-01-01T00:00:00Z") >= 2

    def test_what_a_scoring_script_may_need_of_the_system_is_there(
        self, tmp_path: Path, settings: BuildSettings, score: Path, log: Log
    ) -> None:
        image, blobs = build(recipe(score), settings, log)
        write_layout(image, blobs, tmp_path / "out", "x")
        config = unpack(tmp_path / "out", tmp_path / "root")
        code = """
import bz2, ctypes, curses, decimal, hashlib, lzma, pwd, readline, socket, sqlite3, ssl, sys, uuid, zlib, zoneinfo
print(len(ssl.create_default_context().get_ca_certs()) > 100, zoneinfo.ZoneInfo("Europe/Berlin"),
      pwd.getpwuid(65532).pw_name, sys.version_info[:2], socket.getservbyname("https"), sys.getfilesystemencoding())
"""
        out = run(tmp_path / "root", config, "/usr/bin/python3", "-c", code)
        assert out == "True Europe/Berlin nonroot (3, 11) 443 utf-8\n"

    def test_the_same_input_gives_the_same_digest_and_makes_nothing_anew(
        self, settings: BuildSettings, score: Path, model: Path, log: Log
    ) -> None:
        wanted = recipe(score, models=(ModelFiles("digits", 1, {"model.pkl": model}),))
        first, blobs = build(wanted, settings, log)
        written = {info.digest: blobs.path(info.digest).stat().st_mtime_ns for info in blobs.digests()}
        again, _ = build(wanted, settings, log)
        assert again.descriptor == first.descriptor
        layers = {layer.digest for layer in first.manifests[0].layers}
        assert all(blobs.path(digest).stat().st_mtime_ns == written[digest] for digest in layers)

    def test_a_changed_model_touches_its_own_layer_only(
        self, settings: BuildSettings, score: Path, model: Path, log: Log
    ) -> None:
        wanted = recipe(score, models=(ModelFiles("digits", 1, {"model.pkl": model}),))
        before = layers_of(build(wanted, settings, log)[0])
        model.write_bytes(b"another model")
        after = layers_of(build(wanted, settings, log)[0])
        assert {title for title in before if before[title] != after[title]} == {"model digits:1"}

    def test_layers_made_anew_from_the_same_packages_are_byte_for_byte_the_same(
        self, tmp_path: Path, shared_cache: Path, score: Path, log: Log
    ) -> None:
        settings = BuildSettings(shared_cache)
        first, _ = build(recipe(score), settings, log)
        other = tmp_path / "cache"
        shutil.copytree(shared_cache / "downloads", other / "downloads")
        shutil.copytree(shared_cache / "base", other / "base")
        again, _ = build(recipe(score), BuildSettings(other, "http://127.0.0.1:9/debian", "http://127.0.0.1:9/s"), log)
        assert again.descriptor == first.descriptor

    def test_packages_of_an_index_that_is_a_folder_are_installed_and_run(
        self,
        tmp_path: Path,
        settings: BuildSettings,
        score: Path,
        log: Log,
        make_index: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv(
            "UV_DEFAULT_INDEX", make_index(("alpha", "1.0", ["beta"]), ("beta", "2.0", []), hashes=False)
        )
        environment = tmp_path / "myenv.yml"
        environment.write_text("dependencies:\n  - pip:\n    - alpha\n")
        image, blobs = build(recipe(score, environment=SourceFile("myenv.yml", environment)), settings, log)
        write_layout(image, blobs, tmp_path / "out", "x")
        config = unpack(tmp_path / "out", tmp_path / "root")
        code = "import alpha, beta, importlib.metadata as m; print(alpha.version, beta.__cached__, m.version('beta'))"
        out = run(tmp_path / "root", config, "/usr/bin/python3", "-c", code)
        assert out.startswith("1.0 /usr/lib/python3/dist-packages/beta/__pycache__/__init__.cpython-311.pyc 2.0")
        assert (tmp_path / "root" / out.split()[1].lstrip("/")).exists()

    def test_a_requirements_file_and_a_local_wheel_are_installed_and_run(
        self,
        tmp_path: Path,
        settings: BuildSettings,
        score: Path,
        log: Log,
        make_index: Callable[..., str],
        make_wheel: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("UV_DEFAULT_INDEX", make_index(("beta", "1.0", []), ("beta", "2.0", [])))
        wheel = make_wheel("mine", "1.0", {"mine.py": b"version = 'local'\n"}, requires=["beta"])
        (tmp_path / "r").write_text(f"-c c.txt\n./wheels/{wheel.name}\n")
        (tmp_path / "c").write_text("beta<2\n")
        wanted = recipe(
            score,
            requirements=SourceFile("requirements.txt", tmp_path / "r"),
            wheels=(SourceFile("c.txt", tmp_path / "c"), SourceFile(f"wheels/{wheel.name}", wheel)),
        )
        image, blobs = build(wanted, settings, log)
        write_layout(image, blobs, tmp_path / "out", "x")
        config = unpack(tmp_path / "out", tmp_path / "root")
        out = run(
            tmp_path / "root", config, "/usr/bin/python3", "-c", "import mine, beta; print(mine.version, beta.version)"
        )
        assert out == "local 1.0\n"
        assert not list((tmp_path / "root" / "var" / "azureml-app").rglob("*.whl"))

    @pytest.mark.parametrize(
        ("line", "words"), [("nowhere-to-be-found", "no index has it"), ("alpha==9", "no version satisfies alpha==9")]
    )
    def test_an_environment_that_cannot_be_satisfied_is_explained(
        self,
        tmp_path: Path,
        settings: BuildSettings,
        score: Path,
        log: Log,
        make_index: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch,
        line: str,
        words: str,
    ) -> None:
        monkeypatch.setenv("UV_DEFAULT_INDEX", make_index(("alpha", "1.0", [])))
        environment = tmp_path / "myenv.yml"
        environment.write_text(f"dependencies:\n  - pip:\n    - {line}\n")
        with pytest.raises(ResolutionFailed, match=words):
            build(recipe(score, environment=SourceFile("myenv.yml", environment)), settings, log)

    def test_a_package_that_one_of_two_platforms_lacks_is_named_with_the_versions_that_do_for_both(
        self, tmp_path: Path, settings: BuildSettings, score: Path, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = Index()
        for version in ("1.0", "1.1", "2.0"):
            index.wheel("alpha", version, "cp311-cp311-manylinux_2_17_x86_64")
        for version in ("1.0", "1.1"):
            index.wheel("alpha", version, "cp311-cp311-manylinux_2_17_aarch64")
        environment = tmp_path / "myenv.yml"
        environment.write_text("dependencies:\n  - pip:\n    - alpha==2.0\n")
        platforms = (Platform("linux", "amd64"), Platform("linux", "arm64"))
        wanted = recipe(score, environment=SourceFile("myenv.yml", environment), platforms=platforms)
        with index.serving() as host:
            monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{host}/simple/")
            with pytest.raises(NoWheels) as caught:
                build(wanted, settings, log)
            assert caught.value.message == (
                "package 'alpha' (myenv.yml, line 3): there is no wheel for linux/arm64 with Python 3.11; "
                "versions that have one: 1.1, 1.0; pin one of them (alpha==1.1); sources are not built"
            )
            environment.write_text("dependencies:\n  - pip:\n    - alpha==1.1\n")
            image, _ = build(wanted, settings, log)
        assert image.index is not None
        amd64, arm64 = ({layer.digest for layer in manifest.layers} for manifest in image.manifests)
        assert len(amd64 - arm64) == 2  # Debian and alpha

    def test_a_damaged_layer_in_the_cache_is_noticed_and_made_anew(
        self, tmp_path: Path, settings: BuildSettings, score: Path, model: Path, log: Log
    ) -> None:
        wanted = recipe(score, models=(ModelFiles("damaged", 1, {"model.pkl": model}),))
        image, blobs = build(wanted, settings, log)
        digest = next(d for title, d in layers_of(image).items() if title == "model damaged:1")
        flip_last_byte(blobs, digest)
        with pytest.raises(DamagedLayer):
            write_layout(image, blobs, tmp_path / "a", "x")
        assert not (tmp_path / "a" / "index.json").exists()
        spec = {
            "recipe": wanted.to_json(),
            "cache": str(settings.cache),
            "output": {"layout": str(tmp_path / "b")},
        }
        mended = build_and_publish(spec, {}, log).image
        assert mended.descriptor == image.descriptor
        assert (tmp_path / "b" / "index.json").exists()

    def test_two_platforms_are_one_index_and_share_what_is_equal(
        self, settings: BuildSettings, score: Path, model: Path, log: Log
    ) -> None:
        platforms = (Platform("linux", "amd64"), Platform("linux", "arm64"))
        models = (ModelFiles("digits", 1, {"model.pkl": model}),)
        image, _ = build(recipe(score, models=models, platforms=platforms), settings, log)
        assert image.index is not None
        assert [str(d.platform) for d in image.index.manifests] == ["linux/amd64", "linux/arm64"]
        amd64, arm64 = ([layer.digest for layer in manifest.layers] for manifest in image.manifests)
        assert amd64[0] != arm64[0]
        assert amd64[1:] == arm64[1:]


def flip_last_byte(blobs: FileBlobs, digest: Any) -> None:
    path = blobs.path(digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.fixture(scope="module")
def digits() -> Any:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    data, labels = load_digits(return_X_y=True)
    return LogisticRegression(max_iter=200).fit(data / 16, labels), data / 16


@pytest.fixture(scope="module")
def built(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory, digits: Any) -> tuple[Path, Path]:
    """The image, built by the worker as a process: its layout, and its unpacked root."""
    folder = tmp_path_factory.mktemp("sklearn")
    (folder / "score.py").write_bytes(SKLEARN_SCORE)
    (folder / "myenv.yml").write_bytes(SKLEARN_ENVIRONMENT)
    (folder / "model.pkl").write_bytes(pickle.dumps(digits[0]))
    wanted = Recipe(
        "demo/digits:1",
        SourceFile("score.py", folder / "score.py"),
        SourceFile("myenv.yml", folder / "myenv.yml"),
        models=(ModelFiles("digits", 1, {"model.pkl": folder / "model.pkl"}),),
    )
    spec = {"recipe": wanted.to_json(), "cache": str(shared_cache), "output": {"layout": str(folder / "out")}}
    (folder / "spec.json").write_text(json.dumps(spec))
    arguments = [sys.executable, "-m", "sanderling.image", str(folder / "spec.json")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=500, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"base", "resolve", "wheels", "layers", "assemble"} <= {line.get("step") for line in lines}
    assert [line["n"] for line in lines[:-1]] == list(range(1, len(lines)))
    assert lines[-1]["result"]["sizeBytes"] < 80_000_000
    unpack(folder / "out", folder / "root")
    return folder / "out", folder / "root"


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(600)
class TestScikitLearn:
    def test_it_scores_as_the_model_itself_does(self, built: tuple[Path, Path], digits: Any) -> None:
        layout, root = built
        model, data = digits
        with scoring(root, read_image(layout)[1]) as port:
            body = json.dumps({"data": data[:200].tolist()}).encode()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/score", body, timeout=30) as response:
                assert json.load(response) == model.predict(data[:200]).tolist()

    def test_all_modules_come_from_bytecode(self, built: tuple[Path, Path]) -> None:
        layout, root = built
        config = read_image(layout)[1]
        arguments = command(root, config, "/usr/bin/python3", "-v", "-c", "import sklearn.linear_model")
        told = subprocess.run(arguments, capture_output=True, text=True, timeout=60).stderr.splitlines()
        compiled = [line for line in told if line.startswith("# code object from /") and line.endswith(".py")]
        assert [line for line in compiled if "sitecustomize" not in line] == []
        assert sum("code object from '/" in line and ".pyc" in line for line in told) > 500


@contextmanager
def scoring(root: Path, config: dict[str, Any]) -> Iterator[int]:
    """The image's own entry point, in a sandbox, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config["config"]["Env"] += [f"SERVER_PORT={port}", "SERVER_HOST=127.0.0.1"]
    process = subprocess.Popen(command(root, config), env={"PATH": os.environ["PATH"]})
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)
