"""How builds end: cancelled, killed, out of memory or disk, with a script that fails; and what is left then."""

import contextlib
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sanderling.image import BuildSettings, ImageBuild, ImageBuilds, Log, ModelFiles, Recipe, SourceFile, build
from sanderling.image.layers.layer_file import FileChanged
from sanderling.image.service.build_process import environment_of_worker
from sanderling.image.user_files import hash_file
from tests.image.service.test_builds import MakeBuilds, engine, make_builds, slow_environment, wait, workers
from tests.registry.serving import served

__all__ = ["engine", "make_builds"]  # fixtures

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]

STUCK = "import time\nprint('stuck', flush=True)\ndef init():\n    time.sleep(1000)\ndef run(d): pass\n"
BROKEN = "def init():\n    print('looking')\n    {}['model']\ndef run(d): pass\n"


@pytest.fixture(scope="session", autouse=True)
def warm_cache(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The base is in the cache: a worker, which yields to everybody, would need long for it on a busy machine."""
    path = tmp_path_factory.mktemp("warm") / "score.py"
    path.write_text("def init(): pass\ndef run(data): pass\n")
    build(Recipe("demo/warm:1", SourceFile("score.py", path)), BuildSettings(shared_cache), Log(lambda _: None))


def script(tmp_path: Path, source: str) -> SourceFile:
    path = tmp_path / "score.py"
    path.write_text(source)
    return SourceFile("score.py", path)


def of_build(folder: Path) -> list[bytes]:
    """The command lines of all processes that belong to builds below *folder*."""
    mark = b"SANDERLING_BUILD=" + os.fsencode(folder)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if any(word.startswith(mark) for word in (entry / "environ").read_bytes().split(b"\0")):
                    found.append((entry / "cmdline").read_bytes())
    return found


def until_tried(builds: ImageBuilds, build: ImageBuild, folder: Path, timeout_s: float = 200) -> None:
    """Wait until the sandbox of *build*, whose files are below *folder*, runs."""
    deadline = time.monotonic() + timeout_s
    while not any(b"--report-fd" in line for line in of_build(folder)):
        assert time.monotonic() < deadline, builds.read_log(build.workspace, build.name, build.version)
        assert not builds.get(build.workspace, build.name, build.version).is_finished
        time.sleep(0.02)


def test_a_script_that_fails_is_named_in_the_record_with_the_last_lines(
    make_builds: MakeBuilds, tmp_path: Path
) -> None:
    builds = make_builds()
    builds.start()
    failed = wait(builds, builds.create("demo", "digits", script=script(tmp_path, BROKEN), requested_by="owner"))
    assert (failed.state, failed.error_kind) == ("failed", "invalid")
    assert failed.error is not None
    assert failed.error.startswith("the gate: score.py, line 3, in init(): KeyError: 'model'; ")
    data = failed.to_json()
    assert data["culprit"] == {"file": "score.py", "line": 3}
    assert data["requestedBy"] == "owner"
    assert data["errorLines"][-1] == "KeyError: 'model'"
    assert '  File "/var/azureml-app/score.py", line 3, in init' in data["errorLines"]
    assert len(data["errorLines"]) <= 30


def test_a_cancelled_build_leaves_no_process_a_second_later(make_builds: MakeBuilds, tmp_path: Path) -> None:
    builds = make_builds()
    builds.start()
    build = builds.create("demo", "digits", script=script(tmp_path, STUCK))
    until_tried(builds, build, tmp_path)
    began = time.monotonic()
    assert builds.cancel("demo", "digits", 1).state == "cancelled"
    took_s = time.monotonic() - began
    assert of_build(tmp_path) == []
    assert took_s < 30, took_s  # about one on a machine that does nothing else
    assert wait(builds, build).state == "cancelled"


def test_a_build_that_is_late_in_the_gate_is_ended_with_its_sandbox(make_builds: MakeBuilds, tmp_path: Path) -> None:
    builds = make_builds(time_limit_s=60)
    builds.start()
    build = builds.create("demo", "digits", script=script(tmp_path, STUCK))
    failed = wait(builds, build)
    assert failed.error == "the build took longer than 60 s and was ended"
    assert of_build(tmp_path) == []


def test_a_worker_that_is_killed_fails_its_build_alone(make_builds: MakeBuilds, tmp_path: Path, score: Path) -> None:
    with served(tmp_path) as (address, credentials):
        builds = make_builds(target(address, credentials))
        builds.start()
        chance = random.Random(4)
        for number in range(4):
            (tmp_path / "score.py").write_text(f"N = {number}\ndef init(): pass\ndef run(d): pass\n")
            build = builds.create("demo", "digits", script=SourceFile("score.py", tmp_path / "score.py"))
            while not (pids := workers(tmp_path)):
                assert not builds.get("demo", "digits", build.version).is_finished
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 4))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGKILL)
            ended = wait(builds, build)
            assert ended.state == "succeeded" or "ended by signal 9" in str(ended.error)
            assert of_build(tmp_path) == []
        done = wait(builds, builds.create("demo", "digits", script=SourceFile("score.py", tmp_path / "score.py")))
        assert done.error is None
        assert done.record["inputs"]["script"]["digest"] == f"sha256:{hash_file(tmp_path / 'score.py')}"
        assert {"base", "assemble", "gate", "push"} <= {step["name"] for step in done.record["steps"]}


def target(address: str, credentials: object) -> object:
    from sanderling.image import PushTarget

    user = credentials.set_admin_enabled("demo", True)  # type: ignore[attr-defined]
    return PushTarget(address, username=user.username, password=user.passwords[0], plain_http=True)


def test_a_server_that_is_killed_leaves_nothing_and_the_next_one_builds(
    make_builds: MakeBuilds, engine: Engine, tmp_path: Path, shared_cache: Path, score: Path
) -> None:
    program = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from sanderling.image import ImageBuilds, PushTarget
        from tests.registry.world import make_engine
        folder = Path({str(tmp_path)!r})
        target = PushTarget("127.0.0.1:9", plain_http=True)
        cache, engine = Path({str(shared_cache)!r}), make_engine(folder / "builds.db")
        builds = ImageBuilds(engine, folder / "builds", cache, lambda _: target)
        builds.start()
        time.sleep(600)
        """
    )
    stuck = make_builds().create("demo", "digits", script=script(tmp_path, STUCK))
    for _ in range(2):
        server = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[3])
        try:
            until_tried(make_builds(), stuck, tmp_path)
        finally:
            server.kill()
            server.wait()
        deadline = time.monotonic() + 10
        while left := of_build(tmp_path):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)
    builds = make_builds()
    builds.start()
    assert "the server stopped twice" in str(builds.get("demo", "digits").error)
    broken = builds.create("demo", "digits", script=script(tmp_path, BROKEN))
    assert wait(builds, broken).to_json()["culprit"] == {"file": "score.py", "line": 3}


def test_a_worker_gets_nothing_that_is_the_servers(
    make_builds: MakeBuilds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    builds = make_builds()
    builds.start()
    slow = slow_environment(tmp_path, monkeypatch)
    builds.create("demo", "digits", script=SourceFile("score.py", score), environment=slow)
    while not (pids := workers(tmp_path)):
        time.sleep(0.02)
    told = Path(f"/proc/{pids[0]}/environ").read_bytes() + Path(f"/proc/{pids[0]}/cmdline").read_bytes()
    assert b"hush-hush" not in told
    builds.cancel("demo", "digits", 1)
    given = {"PATH": "p", "https_proxy": "x", "UV_INDEX_URL": "u", "LC_ALL": "C", "SECRET": "s", "AWS_PROFILE": "a"}
    kept = environment_of_worker(given, tmp_path)
    assert set(kept) == {"PATH", "https_proxy", "UV_INDEX_URL", "LC_ALL", "SANDERLING_BUILD"}


def test_a_build_that_wants_more_memory_than_it_may_is_told_so(make_builds: MakeBuilds, score: Path) -> None:
    builds = make_builds(memory_bytes=120 << 20)
    builds.start()
    failed = wait(builds, builds.create("demo", "digits", script=SourceFile("score.py", score)))
    assert failed.state == "failed"
    assert "memory" in str(failed.error) + str(failed.to_json()["errorLines"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB, which `grow` makes larger."""
    if os.geteuid() != 0:
        pytest.skip("a small disk is mounted by root alone")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={12 << 20}", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_on_a_full_disk_a_build_says_so_and_the_next_one_finds_a_sound_cache(
    tmp_path: Path, small_disk: Path, score: Path
) -> None:
    recipe = Recipe("demo/digits:1", SourceFile("score.py", score))
    spec = {"recipe": recipe.to_json(), "cache": str(small_disk), "output": {"layout": str(tmp_path / "out")}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "sanderling.image", str(tmp_path / "spec.json")]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL)
        assert done.returncode == 1, done.stderr
        error = json.loads(done.stdout.splitlines()[-1])["error"]
        assert error["kind"] == "unavailable"
        assert "full" in error["message"] or "No space left" in error["message"], error
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
    subprocess.run(["mount", "-o", "remount,size=2G", str(small_disk)], check=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert (tmp_path / "out" / "index.json").exists()


def test_a_model_that_is_replaced_between_its_hash_and_its_layer_is_noticed_and_not_kept(
    tmp_path: Path, shared_cache: Path, score: Path, model: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = model.read_bytes()

    def hash_and_replace(path: Path, check: Callable[[], None]) -> str:
        digest = hash_file(path, check)
        if path == model:
            other = tmp_path / "other"
            other.write_bytes(b"B" * len(content))  # of the same length
            other.replace(model)
        return digest

    recipe = Recipe("demo/digits:1", SourceFile("score.py", score), models=(ModelFiles("m", 1, {"model.pkl": model}),))
    monkeypatch.setattr("sanderling.image.user_files.hash_file", hash_and_replace)
    with pytest.raises(FileChanged, match=r"model\.pkl changed while the image was being built"):
        build(recipe, BuildSettings(shared_cache), log)
    monkeypatch.undo()
    model.write_bytes(content)
    image, blobs = build(recipe, BuildSettings(shared_cache), log)
    (layer,) = [d for d in image.manifests[0].layers if d.annotations["io.sanderling.layer"] == "model m:1"]
    assert content in gzip.decompress(blobs.read(layer.digest))
