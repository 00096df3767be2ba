"""The build service, over a true database, with true workers and the true registry."""

import json
import os
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from sanderling.errors import Invalid, Unavailable
from sanderling.image import ImageBuild, ImageBuilds, ImageNotFound, ModelFiles, PushTarget, SourceFile, WrongState
from sanderling.image.service.build_records import BuildRecords
from sanderling.oci import Digest
from sanderling.signatures import cosign
from sanderling.signatures.keys import SigningKey
from tests.registry.serving import served
from tests.registry.world import basic, make_engine

MakeBuilds = Callable[..., ImageBuilds]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path / "builds.db")
    yield engine
    engine.dispose()


@pytest.fixture
def make_builds(tmp_path: Path, engine: Engine, shared_cache: Path) -> Iterator[MakeBuilds]:
    made: list[ImageBuilds] = []

    def make(target: PushTarget | None = None, **options: object) -> ImageBuilds:
        wanted = target or PushTarget("127.0.0.1:9", plain_http=True)
        builds = ImageBuilds(engine, tmp_path / "builds", shared_cache, lambda _: wanted, **options)  # type: ignore[arg-type]
        made.append(builds)
        return builds

    yield make
    for builds in made:
        builds.close()


def wait(builds: ImageBuilds, build: ImageBuild, timeout_s: float = 250) -> ImageBuild:
    deadline = time.monotonic() + timeout_s
    after = 0
    while not (now := builds.get(build.workspace, build.name, build.version)).is_finished:
        assert time.monotonic() < deadline
        after = builds.read_log(build.workspace, build.name, build.version, after, 1).next
    return now


def slow_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose resolution never ends: its index takes the connection and says nothing."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{listener.getsockname()[1]}/simple")
    threading.Thread(target=lambda: (time.sleep(60), listener.close()), daemon=True).start()
    path = tmp_path / "slow.yml"
    path.write_text("dependencies:\n  - pip:\n    - never-answered\n")
    return path


class TestQueue:
    """What needs no worker to finish: `start` is not called, or the input is refused."""

    def test_versions_count_up_and_never_return(self, make_builds: MakeBuilds, score: Path) -> None:
        builds = make_builds()
        script = SourceFile("score.py", score)
        assert [builds.create("demo", "digits", script=script).version for _ in range(3)] == [1, 2, 3]
        builds.cancel("demo", "digits", 3)
        builds.delete("demo", "digits", 3)
        assert builds.create("demo", "digits", script=script).version == 4
        assert builds.create("demo", "other", script=script).version == 1
        assert builds.create("else", "digits", script=script).version == 1

    def test_a_new_build_waits_and_shows_its_input(self, make_builds: MakeBuilds, score: Path, model: Path) -> None:
        build = make_builds().create(
            "demo",
            "digits",
            script=SourceFile("score.py", score),
            models=[ModelFiles("digits", 3, {"model.pkl": model})],
            tags={"a": "b"},
            properties={"c": "d"},
            description="Reads digits",
        )
        data = build.to_json()
        assert (data["state"], data["id"], data["location"]) == ("queued", "digits:1", "127.0.0.1:9/demo/digits:1")
        assert (data["models"], data["platforms"]) == (["digits:3"], ["linux/amd64"])
        assert (data["tags"], data["properties"], data["description"]) == ({"a": "b"}, {"c": "d"}, "Reads digits")
        assert (data["digest"], data["seconds"], data["error"]) == (None, None, None)

    def test_requirements_and_the_files_they_name_are_checked_and_kept_for_the_worker(
        self, make_builds: MakeBuilds, tmp_path: Path, score: Path, make_wheel: Callable[..., Path]
    ) -> None:
        builds = make_builds()
        wheel = make_wheel("mine", "1.0", {})
        requirements = tmp_path / "requirements.txt"
        requirements.write_text(f"./dist/{wheel.name}\n")
        script = SourceFile("score.py", score)
        with pytest.raises(Invalid, match=r"the requirements file, line 1: .* was not given"):
            builds.create("demo", "digits", script=script, requirements=requirements)
        with pytest.raises(Invalid, match="give one of them"):
            builds.create("demo", "digits", script=script, requirements=requirements, environment=requirements)
        wheels = [SourceFile(f"dist/{wheel.name}", wheel)]
        made = builds.create("demo", "digits", script=script, requirements=requirements, wheels=wheels)
        assert made.version == 1
        assert made.recipe["requirements"]["source"] == str(requirements)
        assert [item["path"] for item in made.recipe["wheels"]] == [f"dist/{wheel.name}"]

    def test_bad_input_is_refused_at_once_and_leaves_no_record(
        self, make_builds: MakeBuilds, score: Path, tmp_path: Path
    ) -> None:
        builds = make_builds()
        bad = tmp_path / "bad.py"
        bad.write_text("def init(: pass")
        with pytest.raises(Invalid, match=r"score\.py, line 1"):
            builds.create("demo", "digits", script=SourceFile("score.py", bad))
        with pytest.raises(Invalid, match="the environment file, line 1"):
            builds.create("demo", "digits", script=SourceFile("score.py", score), environment=bad)
        with pytest.raises(Invalid, match="no image name"):
            builds.create("demo", "Digits!", script=SourceFile("score.py", score))
        assert builds.list("demo") == []

    def test_the_queue_has_a_bound(self, make_builds: MakeBuilds, score: Path) -> None:
        builds = make_builds(max_queued=2)
        script = SourceFile("score.py", score)
        for _ in range(2):
            builds.create("demo", "digits", script=script)
        with pytest.raises(Unavailable, match="2 builds wait"):
            builds.create("demo", "digits", script=script)

    def test_the_bound_holds_for_many_who_ask_at_once(self, make_builds: MakeBuilds, score: Path) -> None:
        builds = make_builds(max_queued=3)
        script = SourceFile("score.py", score)

        def ask(number: int) -> bool:
            try:
                builds.create("demo", f"digits-{number % 4}", script=script)
            except Unavailable:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(ask, range(24))) == 3
        assert len(builds.list("demo")) == 3

    def test_what_is_not_there_is_not_found(self, make_builds: MakeBuilds) -> None:
        builds = make_builds()
        for call in (builds.cancel, builds.delete, builds.get, builds.read_log):
            with pytest.raises(ImageNotFound, match="'digits:7' is not in workspace 'demo'"):
                call("demo", "digits", 7)

    def test_a_build_that_waits_can_be_cancelled_and_only_then_deleted(
        self, make_builds: MakeBuilds, score: Path
    ) -> None:
        builds = make_builds()
        build = builds.create("demo", "digits", script=SourceFile("score.py", score))
        with pytest.raises(WrongState, match="cancel it before"):
            builds.delete("demo", "digits", build.version)
        assert builds.cancel("demo", "digits", build.version).state == "cancelled"
        with pytest.raises(WrongState, match="digits:1' is cancelled"):
            builds.cancel("demo", "digits", build.version)
        page = builds.read_log("demo", "digits", build.version, wait_s=30)
        assert (page.state, page.events[-1].text) == ("cancelled", "cancelled on request")

    def test_images_that_use_a_model_are_found(self, make_builds: MakeBuilds, score: Path, model: Path) -> None:
        builds = make_builds()
        script = SourceFile("score.py", score)
        one = builds.create("demo", "a", script=script, models=[ModelFiles("m", 1, {"f": model})])
        builds.create("demo", "b", script=script, models=[ModelFiles("m", 2, {"f": model})])
        assert [found.id for found in builds.find_users("demo", "m", 1)] == [one.id]

    def test_the_log_waits_for_events_and_gives_up_in_time(self, make_builds: MakeBuilds, score: Path) -> None:
        builds = make_builds()
        build = builds.create("demo", "digits", script=SourceFile("score.py", score))
        started = time.monotonic()
        assert builds.read_log("demo", "digits", build.version, wait_s=0.3).events == ()
        assert 0.25 < time.monotonic() - started < 30
        timer = threading.Timer(0.2, lambda: builds.cancel("demo", "digits", build.version))
        timer.start()
        page = builds.read_log("demo", "digits", build.version, wait_s=30)
        timer.join()
        assert [event.n for event in page.events] == [1]
        assert page.next == 1

    def test_a_build_that_was_running_when_the_server_stopped_waits_again_and_then_fails(
        self, make_builds: MakeBuilds, engine: Engine, score: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow = slow_environment(tmp_path, monkeypatch)
        build = make_builds().create("demo", "digits", script=SourceFile("score.py", score), environment=slow)
        records = BuildRecords(engine)
        records.change(build, ["queued"], state="running", attempts=2, started_at=build.created_at)
        builds = make_builds()
        builds.start()
        failed = builds.get("demo", "digits")
        assert failed.state == "failed"
        assert failed.error is not None
        assert "the server stopped twice" in failed.error


@pytest.mark.network
@pytest.mark.timeout(300)
class TestWorkers:
    def test_a_failure_is_told_with_its_cause(
        self,
        make_builds: MakeBuilds,
        score: Path,
        tmp_path: Path,
        make_index: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("UV_DEFAULT_INDEX", make_index(("alpha", "1.0", [])))
        environment = tmp_path / "myenv.yml"
        environment.write_text("dependencies:\n  - pip:\n    - beta\n")
        builds = make_builds()
        builds.start()
        build = builds.create("demo", "digits", script=SourceFile("score.py", score), environment=environment)
        failed = wait(builds, build)
        assert (failed.state, failed.error_kind) == ("failed", "invalid")
        assert failed.error is not None
        assert "package 'beta' (the environment file, line 3): no index has it" in failed.error
        assert failed.seconds is not None
        page = builds.read_log("demo", "digits", 1)
        last = page.events[-1]
        assert (last.step, last.level, last.text) == ("failed", "error", failed.error)

    def test_a_build_that_runs_can_be_cancelled_and_leaves_no_process(
        self, make_builds: MakeBuilds, score: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        builds = make_builds()
        builds.start()
        slow = slow_environment(tmp_path, monkeypatch)
        build = builds.create("demo", "digits", script=SourceFile("score.py", score), environment=slow)
        page = builds.read_log("demo", "digits", 1, wait_s=30)
        assert page.state == "running"
        assert workers(tmp_path)
        assert builds.cancel("demo", "digits", 1).state == "cancelled"
        assert wait(builds, build).state == "cancelled"
        assert "cancelled" in [event.step for event in builds.read_log("demo", "digits", 1).events]
        assert not workers(tmp_path)

    def test_a_build_that_takes_too_long_fails(
        self, make_builds: MakeBuilds, score: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        builds = make_builds(time_limit_s=2)
        builds.start()
        slow = slow_environment(tmp_path, monkeypatch)
        build = builds.create("demo", "digits", script=SourceFile("score.py", score), environment=slow)
        failed = wait(builds, build)
        assert failed.state == "failed"
        assert failed.error == "the build took longer than 2 s and was ended"

    def test_a_server_that_closes_ends_its_worker_and_the_next_one_begins_again(
        self, make_builds: MakeBuilds, score: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        builds = make_builds()
        builds.start()
        slow = slow_environment(tmp_path, monkeypatch)
        build = builds.create("demo", "digits", script=SourceFile("score.py", score), environment=slow)
        builds.read_log("demo", "digits", 1, wait_s=30)
        builds.close()
        assert not workers(tmp_path)
        assert builds.get("demo", "digits").state == "queued"
        second = make_builds(time_limit_s=2)
        second.start()
        assert "took longer" in str(wait(second, build).error)

    def test_a_worker_whose_server_dies_ends_itself(
        self, score: Path, tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sanderling.image import Recipe
        from sanderling.image.service.build_process import BuildProcess

        slow = slow_environment(tmp_path, monkeypatch)
        recipe = Recipe("demo/digits:1", SourceFile("score.py", score), SourceFile("slow.yml", slow))
        spec = {"recipe": recipe.to_json(), "cache": str(shared_cache), "output": {"layout": "x"}, "supervised": True}
        process = BuildProcess(tmp_path, spec, {}, 60)
        begun = threading.Event()
        thread = threading.Thread(target=process.run, args=(lambda _: begun.set(),))
        thread.start()
        assert begun.wait(30)
        (pid,) = workers(tmp_path)
        assert process._process is not None
        assert process._process.stdin is not None
        process._process.stdin.close()
        thread.join(20)
        assert not thread.is_alive()
        assert pid not in workers(tmp_path)


def workers(folder: Path) -> list[int]:
    """The ids of worker processes for builds below *folder*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"sanderling.image" in words and any(word.startswith(os.fsencode(folder)) for word in words):
                found.append(int(entry.name))
    return found


@pytest.mark.network
@pytest.mark.timeout(600)
class TestPublishing:
    def test_an_image_is_built_and_pushed_with_the_credentials_of_its_workspace(
        self, make_builds: MakeBuilds, score: Path, model: Path, tmp_path: Path
    ) -> None:
        with served(tmp_path) as (address, credentials):
            user = credentials.set_admin_enabled("demo", True)
            password = user.passwords[0]
            target = PushTarget(
                address, username=user.username, password=password, plain_http=True, shown_as="registry.example:8443"
            )
            key = SigningKey.generate()
            builds = make_builds(target, signing_key=lambda workspace: {"demo": key.private_pem().decode()}[workspace])
            builds.start()
            models = [ModelFiles("digits", 1, {"model.pkl": model})]
            build = builds.create("demo", "digits", script=SourceFile("score.py", score), models=models)
            done = wait(builds, build, 300)
            assert done.error is None
            assert done.state == "succeeded"
            answer = httpx.get(
                f"http://{address}/v2/demo/digits/manifests/1", headers=basic(user.username, user.passwords[0])
            )
            assert answer.headers["docker-content-digest"] == done.digest
            place = f"http://{address}/v2/demo/digits/manifests/{cosign.tag(Digest(done.digest), 'sig')}"
            [layer] = httpx.get(place, headers=basic(user.username, password)).json()["layers"]
            payload = cosign.payload(Digest(done.digest), "registry.example:8443/demo/digits")
            assert key.public.verify(payload, b64decode(layer["annotations"][cosign.SIGNATURE_ANNOTATION]))
            for file in tmp_path.joinpath("builds").rglob("*.json*"):  # what is kept of a build holds no key
                assert key.private_pem().decode().splitlines()[1] not in file.read_text()
            again = wait(builds, builds.create("demo", "digits", script=SourceFile("score.py", score), models=models))
        assert again.location == "registry.example:8443/demo/digits:2"
        text = "\n".join(event.text for event in builds.read_log("demo", "digits", 2).events)
        assert "registry.example:8443/demo/digits:2" in text
        assert address not in text  # the way from the worker to the registry is no way for people
        assert "1 of 5 blobs" in text
        everything = b"".join(path.read_bytes() for path in (tmp_path / "builds").rglob("*") if path.is_file())
        assert user.passwords[0].encode() not in everything
        assert done.size_bytes is not None
        assert done.size_bytes > 15_000_000
        assert done.to_json()["seconds"] > 0

    def test_a_wrong_password_fails_the_build_and_is_told_nowhere(
        self, make_builds: MakeBuilds, score: Path, tmp_path: Path
    ) -> None:
        with served(tmp_path) as (address, _):
            builds = make_builds(PushTarget(address, username="demo", password="not-the-one", plain_http=True))
            builds.start()
            failed = wait(builds, builds.create("demo", "digits", script=SourceFile("score.py", score)), 300)
        assert (failed.state, failed.error_kind) == ("failed", "denied")
        assert "not-the-one" not in json.dumps(failed.to_json())
