"""The runtime as a process of its own: how it ends, and what it leaves."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.edge.cloud import Cloud, module, until
from tests.edge.test_bubblewrap import _alive, _mounts_below
from tests.edge.test_runtime import until_running
from tests.edge.worlds import BUSYBOX, tiny_image

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(BUSYBOX is None, reason="needs busybox: apt-get install busybox-static"),
]

PROGRAM = """
import json, logging, sys
from pathlib import Path
from sanderling.edge import EdgeSettings, main
logging.basicConfig(level=logging.INFO)
given = json.loads(sys.stdin.readline())
main(EdgeSettings(given["connection"], Path(given["data"]), Path(given["ca"]), "bubblewrap", gateway_port=0))
"""


async def start(cloud: Cloud, folder: Path, connection: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    environ = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, stdin=pipe, stderr=pipe, env=environ)
    assert process.stdin is not None
    given = {"connection": connection, "data": str(folder), "ca": str(cloud.ca)}
    process.stdin.write(json.dumps(given).encode() + b"\n")
    await process.stdin.drain()
    return process


async def log_of(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    return (await process.stderr.read()).decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_modules_and_leaves_nothing(cloud: Cloud, tmp_path: Path, number: signal.Signals) -> None:
    marker = f"sleep\x00{40000 + number}".encode()
    reference = cloud.push(tiny_image(f"exec sleep {40000 + number}"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)})
    process = await start(cloud, tmp_path / "edge", connection)
    await until_running(cloud)
    await until(lambda: _alive(marker), "the module's process is there")
    process.send_signal(number)
    async with asyncio.timeout(15):
        log = await log_of(process)
        assert await process.wait() == 0, log
    assert "Traceback" not in log
    key = connection.rpartition("SharedAccessKey=")[2]
    assert key not in log
    assert cloud.password not in log
    assert not _alive(marker)
    assert not _mounts_below(tmp_path)
    assert not list((tmp_path / "edge/workload").rglob("*.sock"))


async def test_after_being_killed_the_next_start_goes_on(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(tiny_image("exec sleep 45678"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)})
    process = await start(cloud, tmp_path / "edge", connection)
    await until_running(cloud)
    await until(lambda: _alive(b"sleep\x0045678"), "the module's process is there")
    process.kill()
    await log_of(process)
    await process.wait()
    await until(lambda: not _alive(b"sleep\x0045678"), "the module dies with its runtime")
    second = await start(cloud, tmp_path / "edge", connection)
    await until(lambda: _alive(b"sleep\x0045678"), "the module runs again")
    second.terminate()
    log = await log_of(second)
    assert await second.wait() == 0, log


async def test_secrets_on_disk_are_the_owners_alone(cloud: Cloud, tmp_path: Path) -> None:
    connection = cloud.create_device()
    cloud.deploy({})
    process = await start(cloud, tmp_path / "edge", connection)
    await until(lambda: (tmp_path / "edge/desired/agent.json").exists(), "the desired state is kept")
    process.terminate()
    await log_of(process)
    await process.wait()
    assert (tmp_path / "edge").stat().st_mode & 0o077 == 0
    for name in ("identities.json", "desired/agent.json", "tls/ca.key", "tls/server.key"):
        assert (tmp_path / "edge" / name).stat().st_mode & 0o077 == 0, name
