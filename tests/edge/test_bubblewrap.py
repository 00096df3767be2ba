import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.edge.cloud import until
from tests.edge.worlds import BUSYBOX, MadeImage, tiny_image

from sanderling.edge.engines import ContainerSpec, State
from sanderling.edge.engines.bubblewrap import BubblewrapEngine
from sanderling.edge.engines.logfile import BoundedLog, tail
from sanderling.edge.layout import Layout
from sanderling.errors import Invalid, NotFound
from sanderling.sandbox.launch import find_bwrap

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(BUSYBOX is None, reason="needs busybox: apt-get install busybox-static"),
]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[BubblewrapEngine]:
    bwrap = find_bwrap()
    assert bwrap is not None
    made = BubblewrapEngine(Layout(tmp_path / "data"), bwrap, "127.0.0.7 gateway.test\n", lambda: None)
    yield made
    await made.close()


async def created(engine: BubblewrapEngine, image: MadeImage, folder: Path, name: str = "m", **options: object) -> None:
    held = image.held_in(folder / "blobs")
    await engine.load(held)
    workload = folder / "workload"
    workload.mkdir(exist_ok=True)
    (workload / "there").write_text("socket goes here")
    environment = options.pop("environment", {"SECRET": "hush"})
    assert isinstance(environment, dict)
    await engine.create(ContainerSpec(name, held, environment, options, "fp", workload))


async def until_exited(engine: BubblewrapEngine, name: str = "m") -> int | None:
    for _ in range(200):
        container = (await engine.containers())[name]
        if container.state is State.EXITED:
            return container.exit_code
        await asyncio.sleep(0.05)
    raise AssertionError("it still runs")


async def until_logged(engine: BubblewrapEngine, text: bytes, name: str = "m") -> bytes:
    for _ in range(200):
        log = await engine.logs(name)
        if text in log:
            return log
        await asyncio.sleep(0.05)
    raise AssertionError(f"{text!r} is not in {log!r}")


async def test_a_module_runs_as_the_images_user_in_a_closed_box(engine: BubblewrapEngine, tmp_path: Path) -> None:
    script = """
        id; pwd; cat /run/iotedge/there; grep gateway /etc/hosts; grep CapEff /proc/self/status
        touch /tmp/y /dev/shm/y && echo wrote-tmp; touch /x || echo read-only; echo $GREETING $SECRET; hostname
        ls /root; echo end >&2; exit 7"""
    await created(engine, tiny_image(script, WorkingDir="/etc", Env=["GREETING=hello"]), tmp_path)
    assert (await engine.containers())["m"].state is State.CREATED
    await engine.start("m")
    assert await until_exited(engine) == 7
    log = (await engine.logs("m")).decode()
    for expected in (
        "uid=65532",
        "/etc\n",
        "socket goes here",
        "127.0.0.7 gateway.test",
        "CapEff:\t0000000000000000",
        "wrote-tmp",
        "read-only",
        "hello hush",
        "\nm\n",
        "end\n",
    ):
        assert expected in log, f"{expected!r} is not in\n{log}"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_as_root_the_module_is_an_unprivileged_user_of_the_host_even_when_it_wants_uid_0(
    engine: BubblewrapEngine, tmp_path: Path
) -> None:
    (tmp_path / "only-root").mkdir(mode=0o700)
    (tmp_path / "only-root/secret").write_text("x")
    await created(
        engine,
        tiny_image("id; ls /host && echo seen; touch /vol/mine && echo volume; sleep 60", User=""),
        tmp_path,
        HostConfig={"Binds": [f"{tmp_path / 'only-root'}:/host", "data:/vol"]},
    )
    await engine.start("m")
    log = await until_logged(engine, b"volume")
    assert b"uid=0" in log
    assert b"seen" not in log
    assert (tmp_path / "data/volumes/data/mine").stat().st_uid == 65534
    await engine.stop("m", 0.2)


async def test_stop_lets_the_module_finish_and_kills_one_that_does_not(
    engine: BubblewrapEngine, tmp_path: Path
) -> None:
    polite = "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    await created(engine, tiny_image(polite), tmp_path)
    await engine.start("m")
    await until_logged(engine, b"ready")
    await engine.stop("m", 5)
    container = (await engine.containers())["m"]
    assert (container.state, container.exit_code) == (State.EXITED, 0)
    assert b"bye" in await engine.logs("m")

    await created(engine, tiny_image("trap '' TERM; echo ready; while true; do sleep 0.1; done"), tmp_path, "deaf")
    await engine.start("deaf")
    await until_logged(engine, b"ready", "deaf")
    await engine.stop("deaf", 0.3)
    assert (await engine.containers())["deaf"].exit_code == 137


async def test_a_module_can_be_started_again_and_removed(engine: BubblewrapEngine, tmp_path: Path) -> None:
    await created(engine, tiny_image("echo run; exit 1"), tmp_path)
    for _ in range(2):
        await engine.start("m")
        assert await until_exited(engine) == 1
    assert (await engine.logs("m")).count(b"run") == 2
    await engine.remove("m")
    assert await engine.containers() == {}
    with pytest.raises(NotFound):
        await engine.logs("m")
    await engine.remove("m")


async def test_secrets_are_not_in_any_command_line(engine: BubblewrapEngine, tmp_path: Path) -> None:
    await created(engine, tiny_image("echo ready; sleep 60"), tmp_path, environment={"TOKEN": "very-secret-token"})
    await engine.start("m")
    await until_logged(engine, b"ready")
    assert not _alive(b"very-secret-token")
    await engine.stop("m", 0.2)


async def test_create_options_win_over_the_image(engine: BubblewrapEngine, tmp_path: Path) -> None:
    image = tiny_image("echo image", Env=["A=1", "B=1"], WorkingDir="/")
    await created(engine, image, tmp_path, Entrypoint=["/bin/env"], WorkingDir="/bin", Env=["A=2", "SECRET=options"])
    await engine.start("m")
    assert await until_exited(engine) == 0
    log = await engine.logs("m")
    assert b"A=2\n" in log
    assert b"B=1\n" in log
    assert b"SECRET=hush\n" in log
    assert b"image" not in log


async def test_a_published_port_moves_by_the_variable_that_the_image_names(
    engine: BubblewrapEngine, tmp_path: Path
) -> None:
    ports = {"PortBindings": {"5001/tcp": [{"HostPort": "18080", "HostIp": "127.0.0.1"}]}}
    labelled = tiny_image("echo $SERVER_HOST:$SERVER_PORT", Labels={"io.sanderling.port-variable": "SERVER_PORT"})
    await created(engine, labelled, tmp_path, HostConfig=ports)
    await engine.start("m")
    await until_exited(engine)
    assert await engine.logs("m") == b"127.0.0.1:18080\n"
    with pytest.raises(Invalid, match="port 5001 cannot be published on 18080"):
        await created(engine, tiny_image("true"), tmp_path, "other", HostConfig=ports)


async def test_what_cannot_be_run_is_refused_at_create(engine: BubblewrapEngine, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="name a command"):
        await created(engine, tiny_image("", Entrypoint=[], Cmd=[]), tmp_path)
    with pytest.raises(Invalid, match="user 'nobody-here'"):
        await created(engine, tiny_image("true", User="nobody-here"), tmp_path)
    with pytest.raises(Invalid, match="createOptions"):
        await created(engine, tiny_image("true"), tmp_path, HostConfig={"Binds": ["/x"]})
    await created(engine, tiny_image("true"), tmp_path, HostConfig={"Binds": ["/not/there:/x"]})
    with pytest.raises(Invalid, match="not on this device"):
        await engine.start("m")


def test_a_log_is_bounded_also_when_much_comes_at_once(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path, 1000)
    log.write(b"a" * 300)
    log.write(bytes(range(100)) * 35)
    log.close()
    assert [(tmp_path / name).stat().st_size for name in ("log", "log.1")] == [500, 1000]
    assert tail(tmp_path, 1500) == (bytes(range(100)) * 35)[-1500:]


async def test_a_log_is_bounded(engine: BubblewrapEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sanderling.edge.engines.logfile.BoundedLog.__init__.__defaults__", (20_000,))
    await created(engine, tiny_image("i=0; while [ $i -lt 9000 ]; do echo line-$i; i=$((i+1)); done"), tmp_path)
    await engine.start("m")
    await until_exited(engine)
    folder = tmp_path / "data/containers/m"
    assert sum(p.stat().st_size for p in folder.glob("log*")) <= 40_000
    assert (await engine.logs("m", 1000)).endswith(b"line-8999\n")


async def test_modules_die_with_a_runtime_that_is_killed(tmp_path: Path) -> None:
    tiny_image("echo ready; sleep 12345").held_in(tmp_path / "blobs")
    program = textwrap.dedent(
        f"""
        import asyncio, sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.edge import test_bubblewrap as t
        from pathlib import Path
        async def main():
            folder = Path({str(tmp_path)!r})
            engine = t.BubblewrapEngine(t.Layout(folder / "data"), t.find_bwrap(), "", lambda: None)
            await t.created(engine, t.tiny_image("echo ready; sleep 12345"), folder)
            await engine.start("m")
            await t.until_logged(engine, b"ready")
            print("ready", flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
        """
    )
    runtime = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert runtime.stdout is not None
    try:
        assert await runtime.stdout.readline() == b"ready\n"
        assert _alive(b"sleep\x0012345\x00")
    finally:
        runtime.kill()
        await runtime.wait()
    await until(lambda: not _alive(b"sleep\x0012345\x00"), "the module dies with its runtime")
    assert not _mounts_below(tmp_path)


async def test_a_module_can_be_stopped_at_any_moment_of_its_start(engine: BubblewrapEngine, tmp_path: Path) -> None:
    await created(engine, tiny_image("sleep 23456"), tmp_path)
    for pause_s in (0, 0.01, 0.02, 0.03, 0.035, 0.04, 0.045, 0.05, 0.055, 0.06, 0.07, 0.1):
        await engine.start("m")
        await asyncio.sleep(pause_s)
        async with asyncio.timeout(5):
            await engine.stop("m", 2)
        assert not _alive(b"sleep 23456"), f"something is left after {pause_s} s"


async def test_the_next_runtime_kills_what_an_earlier_one_left(tmp_path: Path) -> None:
    left = await asyncio.create_subprocess_exec("sleep", "34567", env={"SANDERLING_DATA": str(tmp_path / "data")})
    other = await asyncio.create_subprocess_exec("sleep", "34568", env={"SANDERLING_DATA": str(tmp_path / "data2")})
    bwrap = find_bwrap()
    assert bwrap is not None
    BubblewrapEngine(Layout(tmp_path / "data"), bwrap, "", lambda: None)
    assert await left.wait() == -9
    assert other.returncode is None
    other.kill()
    await other.wait()


def _mounts_below(folder: Path) -> bool:
    return str(folder) in Path("/proc/mounts").read_text()


def _alive(cmdline: bytes) -> bool:
    found = False
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found |= cmdline in (process / "cmdline").read_bytes()
            except OSError:
                continue
    return found
