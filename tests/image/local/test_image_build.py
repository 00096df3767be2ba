"""`sanderling image build --output ...`: the command as a user types it."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_cli
from tests.image.unpack import read_image, unpack
from tests.registry.serving import served

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


class Project:
    """A folder with a script and models, and the command line in it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache

    def run(self, *arguments: str | Path, code: int = 0, **more: str) -> "subprocess.CompletedProcess[str]":
        done = run_cli(
            "image", "build", *arguments, "--cache", self.cache, cwd=self.folder, config=self.folder / "config", **more
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def build(self, *arguments: str | Path) -> dict[str, Any]:
        built: dict[str, Any] = json.loads(self.run("--script", "score.py", *arguments, "--json").stdout)
        return built


@pytest.fixture
def project(tmp_path: Path, score: Path, model: Path, shared_cache: Path) -> Project:
    (tmp_path / "lookup").mkdir()
    (tmp_path / "lookup" / "table.csv").write_text("a,b\n")
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "service_schema.json").write_text('{"input": {}, "output": {}}')
    return Project(tmp_path, shared_cache)


def test_script_models_files_and_schema_are_where_azureml_put_them(project: Project) -> None:
    folder = project.folder / "net"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "w.bin").write_bytes(b"w")
    built = project.build(
        *("--model", "model.pkl", "--model", "digits:3=net", "--file", "lookup"),
        *("--schema", "schema/service_schema.json", "--tag", "team=edge", "--description", "Reads digits"),
        *("--name", "demo/digits:7", "--output", "oci:out"),
    )
    config = unpack(project.folder / "out", project.folder / "root")
    application = project.folder / "root" / "var" / "azureml-app"
    files = sorted(path.relative_to(application).as_posix() for path in application.rglob("*") if path.is_file())
    assert files == [
        "azureml-models/digits/3/net/weights/w.bin",
        "azureml-models/model.pkl/1/model.pkl",
        "lookup/table.csv",
        "schema/service_schema.json",
        "score.py",
    ]
    labels = config["config"]["Labels"]
    assert labels["io.sanderling.image"] == "demo/digits:7"
    assert labels["io.sanderling.tag.team"] == "edge"
    assert "AZUREML_MODEL_DIR=/var/azureml-app/azureml-models" in config["config"]["Env"]
    assert built["image"] == "demo/digits:7"
    assert built["sizeBytes"] == sum(layer["sizeBytes"] for layer in built["layers"]) + _config_and_manifest(project)


def _config_and_manifest(project: Project) -> int:
    manifest, _ = read_image(project.folder / "out")
    index = json.loads((project.folder / "out" / "index.json").read_bytes())
    return int(manifest["config"]["size"] + index["manifests"][0]["size"])


def test_the_same_files_give_the_same_digest_in_every_place(project: Project, tmp_path: Path) -> None:
    outputs = ("oci:out", "oci-archive:out.tar", "docker-archive:docker.tar")
    built = project.build("--model", "model.pkl", *(word for text in outputs for word in ("--output", text)))
    assert [one["place"] for one in built["outputs"]] == list(outputs)
    assert built["outputs"][0]["digest"] == built["outputs"][1]["digest"] == built["digest"]
    assert built["outputs"][2]["digest"] != built["digest"]  # Docker's archives have unpacked layers
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("score.py", "model.pkl"):
        (elsewhere / name).write_bytes((project.folder / name).read_bytes())
    again = Project(elsewhere, project.cache).build("--model", "model.pkl", "--output", "oci:other")
    assert again["digest"] == built["digest"]
    assert again["image"] == "score:latest"
    with tarfile.open(project.folder / "docker.tar") as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        assert json.load(file)[0]["RepoTags"] == ["score:latest"]
    assert not list(project.folder.glob(".*partial*"))


def test_it_is_pushed_with_the_credentials_of_docker_and_they_are_not_shown(project: Project) -> None:
    (project.folder / "registry").mkdir()
    with served(project.folder / "registry") as (address, credentials):
        password = credentials.set_admin_enabled("demo", True).passwords[0]
        home = project.folder / "home"
        variables = {"HOME": str(home), "DOCKER_CONFIG": str(home), "XDG_RUNTIME_DIR": "", "REGISTRY_AUTH_FILE": ""}
        arguments = ("--script", "score.py", "--push", f"{address}/demo/digits:2")
        refused = project.run(*arguments, code=1, **variables)
        assert f"{address} asks for credentials for demo/digits" in refused.stderr
        assert f"try: docker login {address}" in refused.stderr
        home.mkdir()
        account = {"auths": {address: {"username": "demo", "password": password}}}
        (home / "config.json").write_text(json.dumps(account))
        told = project.run(*arguments, "--json", **variables)
        first = json.loads(told.stdout)
        assert first["image"] == "demo/digits:2"
        again = json.loads(project.run(*arguments, "--json", **variables).stdout)
        assert (again["digest"], again["outputs"][0]["sentBytes"]) == (first["digest"], 0)
        assert password not in told.stdout + told.stderr + refused.stderr


def test_an_image_that_one_may_pull_is_a_base_also_without_the_network_when_it_was_used_before(
    project: Project,
) -> None:
    (project.folder / "registry").mkdir()
    home = project.folder / "home"
    home.mkdir()
    variables = {"HOME": str(home), "DOCKER_CONFIG": str(home), "XDG_RUNTIME_DIR": "", "REGISTRY_AUTH_FILE": ""}
    with served(project.folder / "registry") as (address, credentials):
        password = credentials.set_admin_enabled("demo", True).passwords[0]
        account = {"auths": {address: {"username": "demo", "password": password}}}
        (home / "config.json").write_text(json.dumps(account))
        base = f"{address}/demo/base:1"
        project.run("--script", "score.py", "--push", base, **variables)
        arguments = ("--script", "score.py", "--model", "model.pkl", "--base", base, "--output", "oci:out", "--json")
        first = json.loads(project.run(*arguments, **variables).stdout)
    told = project.run(*arguments, "--no-network", **variables)
    assert json.loads(told.stdout)["digest"] == first["digest"]
    (project.folder / "other").mkdir()
    refused = Project(project.folder, project.folder / "other").run(*arguments, "--no-network", code=1, **variables)
    assert f"the base {base} is not on this machine, and nothing may be fetched" in refused.stderr
    assert "try: sanderling image prefetch" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--output", "oci:out", "--model", "nothing"), 2, "nothing is not there"),
        (("--output", "oci:out", "--model", "digits:x=model.pkl"), 2, "'x' is no version"),
        (("--output", "oci:out", "--model", "model.pkl", "--model", "model.pkl"), 2, "list it once"),
        (("--output", "oci:out", "--schema", "/etc/passwd"), 2, "not in the folder of the script"),
        (("--output", "oci:out", "--schema", "lookup/table.csv"), 2, "lookup/table.csv, line 1: this is no JSON"),
        (("--output", "out"), 2, "is no place for a file"),
        (("--output", "docker-archive:x.tar", "--platform", "linux/amd64,linux/arm64"), 2, "holds one platform"),
        (("--output", "oci:out", "--platform", "linux/s390x"), 2, "possible are linux/amd64"),
        (("--output", "oci:lookup"), 2, "is there and is no OCI layout"),
        (("--output", "oci:out", "--file", "loop"), 2, "leads to itself"),
        (("--output", "oci:out", "--offline", "lookup"), 2, "it has no prefetch.json"),
        (("--offline", "lookup", "--name", "x"), 2, "--offline is for builds on this machine"),
        ((), 2, "the image needs a name"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line_and_leaves_nothing(
    project: Project, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (project.folder / "loop").symlink_to("loop")
    done = run_cli(
        "image", "build", "--script", "score.py", *arguments, cwd=project.folder, config=project.folder / "config",
        SANDERLING_CACHE_DIR=str(project.cache.parent / "user"),
    )  # fmt: skip
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.folder / "out").exists()


def command(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "sanderling.cli", "image", "build", "--script", "score.py", *arguments]
    environment = {**os.environ, "SANDERLING_CONFIG_DIR": str(project.folder / "config")}
    return subprocess.Popen(
        [*words, "--cache", str(project.cache), "--json"],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C goes to the whole group
    )


def test_ctrl_c_leaves_nothing_half_and_the_next_build_goes_on(project: Project) -> None:
    project.build("--output", "oci:first")  # the base is there, so that only the model is left to be made
    large = project.folder / "large.bin"
    with large.open("wb") as file:
        file.truncate(2 << 30)
    process = command(project, "--model", "large.bin", "--output", "oci:out")
    temporary = project.cache / "layers" / "temporary"
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size for path in temporary.glob("*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert not (project.folder / "out").exists()
    assert not list(temporary.glob("*"))
    large.write_bytes(b"small")
    assert project.build("--model", "large.bin", "--output", "oci:out")["layers"]


def test_two_builds_at_once_in_one_cache_are_both_right(project: Project) -> None:
    project.build("--output", "oci:first")  # the base; the rest is made by both
    (project.folder / "model.pkl").write_bytes(os.urandom(20 << 20))
    both = [command(project, "--model", "model.pkl", "--output", f"oci:out{n}") for n in (1, 2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert len({json.loads(out)["digest"] for out, _ in told}) == 1
    assert unpack(project.folder / "out1", project.folder / "a") == unpack(
        project.folder / "out2", project.folder / "b"
    )
