"""The Docker engine against a dockerd of its own, with its own folders and socket."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.dockerd import running_dockerd
from tests.edge.cloud import Cloud, module, until
from tests.edge.test_runtime import device, until_running
from tests.edge.worlds import BUSYBOX, MadeImage, file, make_image, tar, tiny_image

from sanderling.edge.engines import ContainerSpec, State
from sanderling.edge.engines.docker import DockerEngine, find_docker
from sanderling.edge.engines.docker_api import DockerApi
from sanderling.errors import Conflict, Invalid, NotFound, Unavailable

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.docker,
    pytest.mark.skipif(BUSYBOX is None, reason="needs busybox: apt-get install busybox-static"),
]
# See tests/dockerd.py: another daemon may use the bridge.
HOST_NETWORK = {"HostConfig": {"NetworkMode": "host"}}


@pytest.fixture(scope="module")
def dockerd() -> Iterator[str]:
    with running_dockerd("--iptables=false", "--ip6tables=false", "--host-gateway-ip", "127.0.0.1") as address:
        yield address


@pytest.fixture
async def engine(dockerd: str) -> AsyncIterator[DockerEngine]:
    api = DockerApi(dockerd)
    await api.connect()
    made = DockerEngine(api, "edge1", "gateway.test")
    yield made
    for name in await made.containers():
        await made.stop(name, 0)
        await made.remove(name)
    await made.close()


async def created(engine: DockerEngine, image: MadeImage, folder: Path, name: str = "m", **options: object) -> None:
    held = image.held_in(folder / "blobs")
    await engine.load(held)
    workload = folder / "workload"
    workload.mkdir(exist_ok=True)
    (workload / "there").write_text("socket goes here\n")
    await engine.create(ContainerSpec(name, held, {"SECRET": "hush"}, {**HOST_NETWORK, **options}, "fp", workload))


async def until_exited(engine: DockerEngine, name: str = "m") -> int | None:
    for _ in range(100):
        container = (await engine.containers())[name]
        if container.state is State.EXITED:
            assert container.started_at is not None
            assert container.exited_at is not None
            return container.exit_code
        await asyncio.sleep(0.1)
    raise AssertionError("it still runs")


async def test_a_module_runs_from_our_own_content(engine: DockerEngine, tmp_path: Path) -> None:
    image = tiny_image("id; cat /run/iotedge/there; grep gateway /etc/hosts; echo $A $SECRET; echo end >&2; exit 7")
    await created(engine, image, tmp_path, Env=["A=options"])
    container = (await engine.containers())["m"]
    assert (container.state, container.fingerprint) == (State.CREATED, "fp")
    assert container.image_digest == image.manifest.digest
    await engine.start("m")
    assert await until_exited(engine) == 7
    log = await engine.logs("m")
    for expected in (b"uid=65532", b"socket goes here", b"gateway.test", b"options hush", b"end"):
        assert expected in log
    await engine.remove("m")
    assert await engine.containers() == {}
    with pytest.raises(NotFound):
        await engine.logs("m")
    await engine.remove("m")
    await engine.stop("m")


async def test_containers_are_labelled_as_iot_edge_does(engine: DockerEngine, dockerd: str, tmp_path: Path) -> None:
    await created(engine, tiny_image("true"), tmp_path)
    api = DockerApi(dockerd)
    await api.connect()
    labels = (await api.get("/containers/module-m/json"))["Config"]["Labels"]
    await api.close()
    assert labels["net.azure-devices.edge.owner"] == "Microsoft.Azure.Devices.Edge.Agent"
    assert labels["net.azure-devices.edge.original-image"] == "registry.test/demo/tiny:1"
    assert "hush" not in str(labels)


async def test_a_name_that_is_taken_is_named(engine: DockerEngine, tmp_path: Path) -> None:
    await created(engine, tiny_image("true"), tmp_path)
    other = DockerEngine(engine._api, "another-device", "gateway.test")
    with pytest.raises(Conflict, match="docker rm module-m"):
        await created(other, tiny_image("true"), tmp_path)
    assert await other.containers() == {}


async def test_options_that_docker_refuses_are_refused_in_its_words(engine: DockerEngine, tmp_path: Path) -> None:
    with pytest.raises((Invalid, Unavailable), match="mount path must be absolute"):
        await created(engine, tiny_image("true"), tmp_path, HostConfig={"Binds": ["/relative:not-absolute"]})


async def test_a_layer_that_is_not_what_the_config_promises_is_refused(engine: DockerEngine, tmp_path: Path) -> None:
    image = make_image(tar([file("weights", b"\x01" * 5000)]), config={"Cmd": ["/x"]})
    held = image.held_in(tmp_path / "blobs")
    layer = held.path(image.manifest.layers[0].digest)
    other = gzip.compress(tar([file("weights", b"\x02" * 5000)]), 0, mtime=0)
    layer.write_bytes(other[: image.manifest.layers[0].size].ljust(image.manifest.layers[0].size, b"\0"))
    with pytest.raises((Invalid, Unavailable)):
        await engine.load(held)


async def test_images_that_nobody_wants_are_discarded(engine: DockerEngine, dockerd: str, tmp_path: Path) -> None:
    first, second = tiny_image("echo 1"), tiny_image("echo 2")
    await created(engine, first, tmp_path, "m1")
    await engine.load(second.held_in(tmp_path / "blobs"))
    await engine.remove("m1")
    await engine.discard({second.config.digest})
    api = DockerApi(dockerd)
    await api.connect()
    tags = [tag for row in await api.get("/images/json") for tag in row["RepoTags"] or []]
    await api.close()
    assert f"sanderling-edge:{second.config.digest.hex}" in tags
    assert f"sanderling-edge:{first.config.digest.hex}" not in tags


async def test_no_daemon_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(Unavailable, match=r"none\.sock does not answer"):
        await find_docker("d", "g")
    monkeypatch.setenv("DOCKER_HOST", "npipe:////./pipe/docker")
    with pytest.raises(Invalid, match="DOCKER_HOST"):
        await find_docker("d", "g")


async def test_a_device_deploys_with_docker_and_its_modules_outlive_the_runtime(
    cloud: Cloud, dockerd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", dockerd)
    reference = cloud.push(tiny_image("echo started $IOTEDGE_MODULEID; ls -l /run/iotedge; exec sleep 300"))
    connection = cloud.create_device()
    cloud.deploy({"m": module(reference, create_options=HOST_NETWORK)})
    settings = {"engine": "auto", "gateway_host": "127.0.0.1"}
    async with device(cloud, tmp_path / "edge", connection, **settings):
        entry = await until_running(cloud)
        assert cloud.reported()["runtime"]["engine"] == "docker"
        started = entry["lastStartTimeUtc"]
    assert not (tmp_path / "edge/workload/m/workload.sock").exists()
    async with device(cloud, tmp_path / "edge", connection, **settings):
        await until(lambda: (tmp_path / "edge/workload/m/workload.sock").exists(), "the socket is served again")
        assert (await until_running(cloud))["lastStartTimeUtc"] == started
        cloud.deploy({})
        await until(lambda: not cloud.reported()["modules"], "the module is gone")
