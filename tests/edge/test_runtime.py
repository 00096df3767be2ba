import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.edge.cloud import Cloud, module, until
from tests.edge.worlds import BUSYBOX, tiny_image

from sanderling.edge import Device, EdgeSettings, run

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(BUSYBOX is None, reason="needs busybox: apt-get install busybox-static"),
]


@asynccontextmanager
async def device(cloud: Cloud, folder: Path, connection: str, **more: Any) -> AsyncIterator[Device]:
    settings = EdgeSettings(
        connection_string=connection,
        data=folder,
        ca=cloud.ca,
        engine="bubblewrap",
        **{"gateway_port": 0, **more},
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
