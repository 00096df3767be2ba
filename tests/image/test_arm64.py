"""An image for another processor, made on this machine and run by qemu's user mode: scikit-learn on arm64."""

import json
import pickle
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sanderling.image import BuildSettings, Event, Log, ModelFiles, Recipe, SourceFile, build
from sanderling.image.assembly import Assembled
from sanderling.image.layout import write_layout
from sanderling.oci import Platform
from tests.image.unpack import command, unpack
from tests.registry.clients.tools import needed

SCORE = b"""
import json, os, pickle, platform
import numpy
from sklearn.linear_model import LogisticRegression

def init():
    global model
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.pkl"), "rb") as file:
        model = pickle.load(file)

def run(raw_data):
    data = numpy.array(json.loads(raw_data)["data"])
    chances = model.predict_proba(data[:3]).tolist()
    return {"machine": platform.machine(), "labels": model.predict(data).tolist(), "chances": chances}
"""
ENVIRONMENT = b"""
name: project_environment
dependencies:
  - python=3.11
  - pip:
    - azureml-defaults
    - scikit-learn
"""
PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))
# What Debian has as a link to /etc, and what the user may write anew: both are compiled when they are read.
WITHOUT_BYTECODE = {"/usr/lib/python3.11/sitecustomize.py", "/var/azureml-app/score.py"}

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def digits() -> Any:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    data, labels = load_digits(return_X_y=True)
    return LogisticRegression(max_iter=200).fit(data / 16, labels), data / 16


@dataclass(frozen=True)
class Built:
    image: Assembled
    layout: Path
    events: list[Event]


@pytest.fixture(scope="module")
def built(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Built:
    folder = tmp_path_factory.mktemp("arm64")
    (folder / "score.py").write_bytes(SCORE)
    (folder / "myenv.yml").write_bytes(ENVIRONMENT)
    (folder / "model.pkl").write_bytes(pickle.dumps(digits[0]))
    wanted = Recipe(
        "demo/digits:1",
        SourceFile("score.py", folder / "score.py"),
        SourceFile("myenv.yml", folder / "myenv.yml"),
        models=(ModelFiles("digits", 1, {"model.pkl": folder / "model.pkl"}),),
        platforms=PLATFORMS,
        gate=False,  # it would try the amd64 one, which is not what is proved here
    )
    events: list[Event] = []
    image, blobs = build(wanted, BuildSettings(shared_cache), Log(events.append))
    write_layout(image, blobs, folder / "out", "demo/digits:1")
    return Built(image, folder / "out", events)


def test_both_platforms_are_in_one_index_and_what_is_equal_is_made_once(built: Built) -> None:
    assert built.image.index is not None
    assert [str(described.platform) for described in built.image.index.manifests] == ["linux/amd64", "linux/arm64"]
    (listed,) = json.loads((built.layout / "index.json").read_bytes())["manifests"]
    assert listed["digest"] == built.image.descriptor.digest
    amd64, arm64 = ({layer.digest: title(layer) for layer in m.layers} for m in built.image.manifests)
    both = {amd64[digest] for digest in amd64.keys() & arm64.keys()}
    assert both == {"4 small packages", "sanderling_scoring", "model digits:1", "score.py"}
    own = {re.sub(r" .*", "", text) for text in arm64.values()} - {re.sub(r" .*", "", text) for text in both}
    assert own == {"Debian", "numpy", "scipy", "scikit-learn"}
    made = Counter(event.text.partition(":")[0] for event in built.events if event.step == "layers")
    assert made["score.py"] == 1
    assert all(made[text.partition(":")[0]] <= 1 for text in both)


def title(layer: Any) -> str:
    return str(layer.annotations["io.sanderling.layer"])


def test_it_scores_on_arm64_as_the_model_does_here_and_all_its_modules_come_from_bytecode(
    built: Built, digits: Any, tmp_path: Path
) -> None:
    emulator = needed("qemu-aarch64-static", "qemu-user-static")
    model, data = digits
    config = unpack(built.layout, tmp_path / "root", "arm64")
    assert_program_of(tmp_path / "root" / "usr/bin/python3.11", machine=183)
    (tmp_path / "sample.json").write_text(json.dumps({"data": data[:200].tolist()}))
    check = [*config["config"]["Entrypoint"], "--check", "--report-fd", "1", "--sample", "/run/sample.json"]
    check.insert(1, "-v")  # the interpreter tells of each module where it is from
    done = subprocess.run(
        command(tmp_path / "root", config, *check, emulator=emulator, files={"sample.json": tmp_path / "sample.json"}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["stage"] == "done"
    answer = json.loads(report["answer"]["text"])
    assert answer["machine"] == "aarch64"
    assert answer["labels"] == model.predict(data[:200]).tolist()
    assert answer["chances"] == [pytest.approx(row) for row in model.predict_proba(data[:3]).tolist()]
    told = done.stderr.splitlines()
    compiled = {line.removeprefix("# code object from ") for line in told if line.startswith("# code object from /")}
    assert {path for path in compiled if path.endswith(".py")} == WITHOUT_BYTECODE
    # Python says this only of a file whose magic number is its own and whose flags it obeys.
    assert sum(line.startswith("# code object from '/") and line.endswith(".pyc'") for line in told) > 500


def assert_program_of(path: Path, *, machine: int) -> None:
    """ELF's e_machine: the processor that a program is for."""
    head = path.read_bytes()[:20]
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:20], "little") == machine
