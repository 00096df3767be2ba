import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.edge.cloud import Cloud, module, until
from tests.edge.worlds import BUSYBOX, tiny_image

from sanderling.edge import Device, EdgeSettings, run
from sanderling.errors import Conflict, Invalid, Unavailable

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(BUSYBOX is None, reason="needs busybox: apt-get install busybox-static"),
]


@asynccontextmanager
async def device(cloud: Cloud, folder: Path, connection: str, **more: Any) -> AsyncIterator[Device]:
    settings = EdgeSettings(
        connection_string=connection,
        data=folder,
        **{"ca": cloud.ca, "engine": "bubblewrap", "gateway_port": 0, **more},
    )
    ready: asyncio.Future[Device] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(settings, ready=ready.set_result))
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    if task.done():
        task.result()
    try:
        yield ready.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_running(cloud: Cloud, name: str = "m", timeout_s: float = 30) -> dict[str, Any]:
    def running() -> dict[str, Any] | None:
        entry = cloud.reported().get("modules", {}).get(name, {})
        return entry if entry.get("runtimeStatus") == "running" else None

    found: dict[str, Any] = await until(running, f"{name} runs", timeout_s)
    return found


async def test_a_module_runs_from_the_hubs_registry_without_credentials(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(tiny_image("sleep 300"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)}, has_credentials=False)
    async with device(cloud, tmp_path / "edge", connection):
        await until_running(cloud)
    assert "SharedAccessSignature" not in json.dumps(cloud.reported())


async def test_a_deployed_module_is_pulled_run_and_reported(cloud: Cloud, tmp_path: Path) -> None:
    image = tiny_image("echo started $IOTEDGE_DEVICEID/$IOTEDGE_MODULEID; ls /run/iotedge; sleep 300")
    reference = cloud.push(image)
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)})
    async with device(cloud, tmp_path / "edge", connection):
        entry = await until_running(cloud)
        assert entry["settings"]["imageHash"] == image.manifest.digest
        log = tmp_path / "edge/containers/m/log"
        await until(lambda: b"workload.sock" in log.read_bytes(), "the module's log is written")
        assert b"started edge1/m" in log.read_bytes()
        assert cloud.reported()["lastDesiredStatus"] == {"code": 200, "description": ""}


async def test_a_restart_without_the_server_brings_all_back(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(tiny_image("echo started; sleep 300"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)})
    async with device(cloud, tmp_path / "edge", connection):
        await until_running(cloud)
    await asyncio.to_thread(cloud.stop)
    log = tmp_path / "edge/containers/m/log"
    before = log.read_bytes().count(b"started")
    async with device(cloud, tmp_path / "edge", connection):
        await until(lambda: log.read_bytes().count(b"started") == before + 1, "the module runs again, offline")


@pytest.mark.slow
async def test_the_old_module_runs_on_until_the_new_image_is_whole(cloud: Cloud, tmp_path: Path) -> None:
    connection = cloud.create_device()
    first = cloud.push(tiny_image("echo one; sleep 300"), tag="1")
    cloud.deploy({"m": module(first)})
    async with device(cloud, tmp_path / "edge", connection):
        await until_running(cloud)
        missing = first.replace(":1", ":2").replace("localhost:2", "localhost:1")
        missing = f"{cloud.host}/demo/tiny:2"
        cloud.deploy({"m": module(missing)})
        entry = await until(
            lambda: (e := cloud.reported()["modules"]["m"]) and "was not found" in e["statusDescription"] and e,
            "the missing image is reported",
        )
        assert entry["runtimeStatus"] == "running"
        assert entry["settings"]["image"] == first
        assert f"module 'm': image {missing} was not found in the registry" in entry["statusDescription"]
        assert cloud.reported()["lastDesiredStatus"]["code"] == 500
        cloud.push(tiny_image("echo two; sleep 300"), tag="2")
        await until(
            lambda: (
                (e := cloud.reported()["modules"]["m"])["settings"]["image"] == missing
                and e["runtimeStatus"] == "running"
            ),
            "the update runs once it is pushed",
            40,
        )
        assert cloud.reported()["lastDesiredStatus"]["code"] == 200


async def test_a_wrong_password_is_reported_and_mended_by_a_new_deployment(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(tiny_image("sleep 300"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)}, password="wrong")
    async with device(cloud, tmp_path / "edge", connection):
        text = await until(
            lambda: (
                "refused the credentials"
                in (t := cloud.reported().get("modules", {}).get("m", {}).get("statusDescription", ""))
                and t
            ),
            "the refusal is reported",
        )
        assert "module 'm'" in text
        assert cloud.password not in text
        cloud.deploy({"m": module(reference)})
        await until_running(cloud)


@pytest.mark.slow
async def test_a_module_that_fails_is_reported_with_its_last_words_and_started_again(
    cloud: Cloud, tmp_path: Path
) -> None:
    reference = cloud.push(tiny_image("echo no model here >&2; exit 3"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)})
    async with device(cloud, tmp_path / "edge", connection):
        entry = await until(
            lambda: (
                (e := cloud.reported().get("modules", {}).get("m", {}))
                and e.get("runtimeStatus") == "backoff"
                and "no model here" in e["statusDescription"]
                and e
            ),
            "the failure is reported",
        )
        assert entry["exitCode"] == 3
        await until(lambda: cloud.reported()["modules"]["m"]["restartCount"] == 1, "it is started again", 25)


async def test_removed_and_stopped_modules_stop(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(tiny_image("trap 'exit 0' TERM; while true; do sleep 0.1; done"))
    connection = cloud.create_device()
    cloud.deploy({"a": module(reference), "b": module(reference)})
    async with device(cloud, tmp_path / "edge", connection):
        await until_running(cloud, "a")
        await until_running(cloud, "b")
        cloud.deploy({"a": module(reference, status="stopped")})
        await until(
            lambda: (m := cloud.reported()["modules"]).keys() == {"a"} and m["a"]["runtimeStatus"] == "stopped",
            "a has stopped and b is gone",
        )
        assert not (tmp_path / "edge/containers/b").exists()
        cloud.deploy({"a": module(reference)})
        await until_running(cloud, "a")


async def test_what_cannot_be_is_reported_and_what_runs_goes_on(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(tiny_image("sleep 300"))
    connection = cloud.create_device()
    ports = {"HostConfig": {"PortBindings": {"5001/tcp": [{"HostPort": "8080"}]}}}
    cloud.deploy({"good": module(reference), "bad": module(reference, create_options=ports)})
    async with device(cloud, tmp_path / "edge", connection):
        await until_running(cloud, "good")
        entry = await until(
            lambda: (e := cloud.reported()["modules"].get("bad", {})).get("runtimeStatus") == "failed" and e,
            "the port is refused",
        )
        assert "port 5001 cannot be published on 8080" in entry["statusDescription"]
        assert cloud.reported()["modules"]["good"]["runtimeStatus"] == "running"


async def test_two_runtimes_do_not_share_a_folder(cloud: Cloud, tmp_path: Path) -> None:
    connection = cloud.create_device()
    async with device(cloud, tmp_path / "edge", connection):
        with pytest.raises(Conflict, match="another edge runtime"):
            async with device(cloud, tmp_path / "edge", connection):
                pass
    async with device(cloud, tmp_path / "edge", connection):
        pass


async def test_settings_that_cannot_be_are_refused_at_once(cloud: Cloud, tmp_path: Path) -> None:
    connection = cloud.create_device()
    with pytest.raises(Invalid, match="DeviceId and SharedAccessKey"):
        async with device(cloud, tmp_path / "edge", "HostName=localhost"):
            pass
    with pytest.raises(Invalid, match="not base64"):
        async with device(cloud, tmp_path / "edge", "HostName=h;DeviceId=d;SharedAccessKey=%%%"):
            pass
    async with device(cloud, tmp_path / "edge", connection) as first:
        with pytest.raises(Unavailable, match="choose another with --gateway-port"):
            async with device(cloud, tmp_path / "other", connection, gateway_port=first.gateway_port):
                pass


async def test_a_turn_that_fails_for_whatever_reason_is_repeated_and_the_edge_hub_goes_on(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = cloud.create_device()
    cloud.deploy({"m": module(cloud.push(tiny_image("sleep 300")))})
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_running(cloud)
        assert edge._engine is not None
        containers, faults = edge._engine.containers, [OSError(28, "No space left on device"), TypeError("a fault")]

        async def failing() -> Any:
            if faults:
                raise faults.pop()
            return await containers()

        monkeypatch.setattr(edge._engine, "containers", failing)
        cloud.deploy({"m": module(cloud.push(tiny_image("echo new; sleep 300"), tag="2"))})
        log = tmp_path / "edge/containers/m/log"
        await until(lambda: log.exists() and b"new" in log.read_bytes(), "the new module runs", 30)
        assert not faults


async def test_a_full_disk_is_reported_and_the_module_starts_when_there_is_room(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = cloud.create_device()
    fsync, is_full = os.fsync, True

    def on_a_full_disk(fd: int) -> None:
        if is_full and "container.json" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(28, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", on_a_full_disk)
    cloud.deploy({"m": module(cloud.push(tiny_image("sleep 300")))})
    async with device(cloud, tmp_path / "edge", connection):

        def description() -> str:
            return str(cloud.reported().get("modules", {}).get("m", {}).get("statusDescription"))

        await until(lambda: "No space left on device" in description(), "the full disk is reported", 30)
        is_full = False
        await until_running(cloud)


@pytest.mark.slow
async def test_a_module_is_restarted_while_a_pull_hangs(cloud: Cloud, tmp_path: Path) -> None:
    """A registry that takes the connection and says nothing must not hold up what runs."""
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    reference = cloud.push(tiny_image("echo started; sleep 1; exit 1"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)})
    async with device(cloud, tmp_path / "edge", connection):
        log = tmp_path / "edge/containers/m/log"
        await until(lambda: log.exists() and b"started" in log.read_bytes(), "it has run")
        await asyncio.sleep(6)  # it has exited, and is due in some five seconds; a pull gives up after ten
        cloud.deploy({"m": module(reference), "slow": module(f"127.0.0.1:{port}/demo/none:1")})
        await until(
            lambda: "pulling" in cloud.reported().get("modules", {}).get("slow", {}).get("statusDescription", ""),
            "the pull is reported",
        )
        await until(lambda: log.read_bytes().count(b"started") >= 2, "it is started again", 20)
        assert "pulling" in cloud.reported()["modules"]["slow"]["statusDescription"]
        await until(
            lambda: "cannot be reached" in cloud.reported()["modules"]["slow"]["statusDescription"], "the pull gives up"
        )
    silent.close()


async def test_a_deployment_that_is_invalid_changes_nothing(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(tiny_image("sleep 300"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference)})
    async with device(cloud, tmp_path / "edge", connection):
        await until_running(cloud)
        with cloud.client() as http:
            # Past the hub's own check: the twin is patched, not deployed.
            patch = {"properties": {"desired": {"modules": {"m": {"restartPolicy": "sometimes"}}}}}
            url = "/twins/edge1/modules/%24edgeAgent?api-version=2021-04-12"
            assert http.patch(url, json=patch, headers={"If-Match": "*"}).status_code == 200
        status = await until(
            lambda: (s := cloud.reported()["lastDesiredStatus"])["code"] == 400 and s, "the refusal is reported"
        )
        assert "module 'm': 'restartPolicy' is one of" in status["description"]
        assert cloud.reported()["modules"]["m"]["runtimeStatus"] == "running"
        cloud.deploy({"m": module(reference, restartPolicy="never")})
        await until(lambda: cloud.reported()["lastDesiredStatus"]["code"] == 200, "a good one is taken")


async def test_a_hub_that_is_not_trusted_is_said_once_with_the_way_out(
    cloud: Cloud, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sanderling.edge")
    async with device(cloud, tmp_path / "edge", cloud.create_device(), ca=None):
        await until(lambda: "$edgeAgent is not connected" in caplog.text, "the trouble is logged")
        await asyncio.sleep(3)  # more than two further attempts
    said = [record.getMessage() for record in caplog.records if "$edgeAgent is not connected" in record.getMessage()]
    assert len(said) == 1
    assert "give the CA that signed it with --ca" in said[0]
