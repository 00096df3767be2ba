"""RUN in the engines that are here: Docker with a daemon of its own, Podman and Buildah with a storage of their own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sanderling.dockerfile import DockerfileInvalid
from sanderling.image import Event
from sanderling.image.layers.tree import Entry
from sanderling.oci import Platform
from tests.dockerd import running_dockerd
from tests.image.steps.conftest import ROOT, World

ENGINES = ("docker", "podman", "buildah")
HOST = Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine))


@pytest.fixture(scope="module")
def docker_address() -> Iterator[str]:
    with running_dockerd() as address:
        yield address


def only(engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other engine than *engine* answer."""
    folder.mkdir()
    for name in ENGINES:
        if name != engine:
            (folder / name).write_text("#!/bin/sh\nexit 1\n")
            (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}:/usr/sbin")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name: str = request.param
    if shutil.which(name) is None or os.geteuid() != 0:
        pytest.skip(f"{name} is not here, or not for this user")
    only(name, tmp_path / "programs", monkeypatch)
    if name == "docker":
        monkeypatch.setenv("DOCKER_HOST", request.getfixturevalue("docker_address"))
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="engine-", dir="/tmp") as home:  # Podman wants a short path
        Path(home, "storage.conf").write_text(
            f'[storage]\ndriver="vfs"\ngraphroot="{home}/root"\nrunroot="{home}/run"\n'
        )
        Path(home, "containers.conf").write_text(
            f'[engine]\nlock_type="file"\ncgroup_manager="cgroupfs"\nevents_logger="none"\ntmp_dir="{home}/tmp"\n'
            f'[network]\nnetwork_config_dir="{home}/networks"\n'
        )
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", f"{home}/storage.conf")
        monkeypatch.setenv("CONTAINERS_CONF", f"{home}/containers.conf")
        monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
        yield name
        left = [one.name for one in Path(home, "root/vfs-images").glob("*")]
        assert [one for one in left if not one.endswith((".json", ".lock"))] == [], "images are left in the engine"


@pytest.fixture
def shell(world: World) -> World:
    """An image with a shell, for the processor that is here."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed (Debian: apt-get install busybox-static)")
    tools = ("sh", "id", "mkdir", "rm", "ln", "cat", "touch", "env", "pwd", "printf")
    world.platform = HOST
    world.root = (
        *(entry for entry in ROOT if entry.path != "usr/bin/python3"),
        Entry("usr/bin/busybox", "file", 0o755, Path(busybox).read_bytes()),
        *(Entry(f"usr/bin/{name}", "link", 0o777, target="busybox") for name in tools),
        Entry("etc/old", "file", 0o644, b"old"),
        Entry("opt/full/a", "file", 0o644, b"a"),
    )
    return world


@pytest.mark.timeout(300)
def test_what_a_command_changes_is_a_layer_and_nothing_else(shell: World, engine: str, events: list[Event]) -> None:
    steps = """
        ENV GREETING="hi there"
        ARG NAME=you
        WORKDIR /srv
        RUN echo "$GREETING $NAME" > said; id -u > /tmp/who; mkdir -p /opt/v2/deep && ln -s /opt/v2 /opt/newer; \\
            rm /etc/old; rm -r /opt/full; touch /home/app/x; echo to the log
    """
    applied = shell.apply(steps)
    layer = applied.layers[-1].layer
    members = shell.members(layer)
    files = {name for name, info in members.items() if not info.isdir()}
    assert files == {"srv/said", "tmp/who", "opt/newer", "home/app/x", "etc/.wh.old", "opt/.wh.full"}
    assert (members["tmp"].mode, members["home/app"].mode, members["home/app"].uid) == (0o1777, 0o700, 1001)
    assert {info.mtime for info in members.values()} == {0}
    with shell.open(layer) as tar:
        assert tar.extractfile("srv/said").read() == b"hi there you\n"  # type: ignore[union-attr]
        assert tar.extractfile("tmp/who").read() == b"0\n"  # type: ignore[union-attr]
    assert "to the log" in [event.text for event in events if event.step == "run"]
    warned = [event.text for event in events if event.level == "warning"]
    assert warned == [
        "Dockerfile, line 5: from this RUN on the image is not the same on another day or machine, "
        "for what the command does may differ"
    ]
    again = shell.apply(steps)
    assert [made.was_cached for made in again.layers] == [True, True]


@pytest.mark.timeout(300)
def test_what_was_a_file_may_become_a_folder_and_names_may_be_odd(shell: World, engine: str) -> None:
    files = shell.files(
        "RUN rm /etc/old; mkdir /etc/old; touch /etc/old/x '/etc/a\\b'; ln /etc/old/x /etc/y; ln -sf gone /opt/v1/l"
    )
    assert {"etc/old/x", "etc/a\\b", "etc/y"} <= set(files)
    assert files["opt/v1/l"] == "-> gone"


@pytest.mark.timeout(300)
def test_bytecode_counts_as_fresh_though_times_are_0(shell: World, engine: str) -> None:
    timed, hashed = "MAGC\\0\\0\\0\\0TIMESIZErest", "MAGC\\001\\0\\0\\0HASHHASHrest"
    steps = f"""
        RUN mkdir -p /m/__pycache__; touch /m/a.py /m/b.py; cd /m/__pycache__; printf '{timed}' > a.cpython-311.pyc; \\
            printf '{hashed}' > b.cpython-311.pyc; printf '{timed}' > gone.cpython-311.pyc
    """
    files = shell.files(steps)
    assert files["m/__pycache__/a.cpython-311.pyc"] == "MAGC\0\0\0\0\0\0\0\0SIZErest"
    assert files["m/__pycache__/b.cpython-311.pyc"] == "MAGC\x01\0\0\0HASHHASHrest"
    assert files["m/__pycache__/gone.cpython-311.pyc"] == "MAGC\0\0\0\0TIMESIZErest"


@pytest.mark.timeout(300)
def test_a_user_and_files_of_steps_before_are_there(shell: World, engine: str) -> None:
    shell.write({"a.txt": b"content"})
    files = shell.files("COPY --chown=app a.txt /home/app/\nUSER app\nRUN cat /home/app/a.txt > /tmp/b; id > /tmp/id\n")
    assert files["tmp/b"] == "content"
    assert files["tmp/id"].startswith("uid=1001(app) gid=1002")


@pytest.mark.timeout(300)
def test_a_command_that_fails_is_named_with_its_line_and_words(shell: World, engine: str) -> None:
    with pytest.raises(DockerfileInvalid, match=r"(?s)line 3: RUN: it ended with code \d+: .*no such thing"):
        shell.apply("LABEL a=b\n\nRUN echo no such thing >&2; exit 7")


def test_an_image_without_a_shell_is_named(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(tmp_path, monkeypatch, str(world.platform))
    with pytest.raises(DockerfileInvalid, match=r"line 2: RUN: the image has no /bin/sh.*--base"):
        world.apply("LABEL a=b\nRUN true")


def test_another_processor_is_refused_with_the_reason(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(tmp_path, monkeypatch, "linux/riscv64")
    with pytest.raises(
        DockerfileInvalid, match=r"line 2: RUN runs programs.*docker here runs those of linux/riscv64, not"
    ):
        world.apply("LABEL a=b\nRUN true")


def test_without_an_engine_the_line_and_ways_out_are_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        DockerfileInvalid,
        match=r"line 3: RUN needs a container engine.*docker is not installed.*environment file.*\(base\)",
    ):
        world.apply("LABEL a=b\n\nRUN apt-get update \\\n && apt-get install -y git")


def answer(folder: Path, monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """A docker that says which platform it runs, and runs nothing."""
    (folder / "docker").write_text(f"#!/bin/sh\necho {platform}\n")
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
