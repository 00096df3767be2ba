"""What goes wrong between a module and the edge hub: nothing that was acknowledged is lost, nobody holds up others."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.edge.cloud import Cloud, until
from tests.edge.module_client import ModuleClient
from tests.edge.test_gateway import ready_cloud, until_routes
from tests.edge.test_runtime import device

from sanderling.edge.layout import Layout
from sanderling.errors import Invalid
from sanderling.iot import ConnectionString, sas, topics
from sanderling.mqtt import Connect, Publish, Subscribe, encode

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def raw_module(text: str, port: int, ca: Path, *behind: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """Connect with *behind* in the same bytes as CONNECT."""
    own = ConnectionString.parse(text)
    reader, writer = await asyncio.open_connection("localhost", port, ssl=ssl.create_default_context(cafile=str(ca)))
    name = f"{own.device_id}/{own.module_id}"
    resource = f"{own.host_name}/devices/{own.device_id}/modules/{own.module_id}"
    token = sas.build(resource, own.shared_access_key or "", int(time.time()) + 600)
    user = f"{own.host_name}/{name}/?api-version=2019-10-01"
    writer.write(encode(Connect(name, True, 60, user, token.encode())) + b"".join(behind))
    try:
        yield reader
    finally:
        writer.transport.abort()


async def test_what_comes_right_behind_connect_is_answered_at_once(cloud: Cloud, tmp_path: Path) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    subscribe = encode(Subscribe(7, ((topics.TWIN_RESPONSES, 0),)))
    async with (
        device(cloud, tmp_path / "edge", connection) as edge,
        raw_module(sensor, edge.gateway_port, edge.gateway_ca, subscribe) as reader,
        asyncio.timeout(5),
    ):
        assert (await reader.readexactly(4))[0] == 0x20
        assert await reader.readexactly(5) == b"\x90\x03\x00\x07\x00"


async def test_a_repeated_publish_without_a_message_id_is_never_taken_for_an_older_one(
    cloud: Cloud, tmp_path: Path
) -> None:
    # A sensor says "on" as packet 1; later it says "on" again as packet 1 and the link breaks before that
    # arrives: what it sends anew, marked as a repetition, is a message that nobody has.
    connection, sensor, _ = await ready_cloud(cloud)
    topic = topics.events_topic("edge1", "sensor", "%24.on=out")
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)
        for dup in (False, True):
            publish = encode(Publish(topic, b"on", qos=1, packet_id=1, dup=dup))
            async with raw_module(sensor, edge.gateway_port, edge.gateway_ca, publish) as reader, asyncio.timeout(5):
                assert await reader.readexactly(8) == b"\x20\x02\x00\x00\x40\x02\x00\x01"
        await until(lambda: len(cloud.events()) == 2, "both arrive")


async def test_a_repeated_publish_with_a_message_id_is_kept_once(cloud: Cloud, tmp_path: Path) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    topic = topics.events_topic("edge1", "sensor", "%24.on=out&%24.mid=a1")
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)
        for dup in (False, True):
            publish = encode(Publish(topic, b"on", qos=1, packet_id=1, dup=dup))
            async with raw_module(sensor, edge.gateway_port, edge.gateway_ca, publish) as reader, asyncio.timeout(5):
                assert await reader.readexactly(8) == b"\x20\x02\x00\x00\x40\x02\x00\x01"
        await until(cloud.events, "it arrives")
        await asyncio.sleep(0.5)
    assert len(cloud.events()) == 1


async def test_before_any_routes_have_come_nothing_is_acknowledged(cloud: Cloud, tmp_path: Path) -> None:
    connection, sensor = cloud.create_device(), cloud.create_module("sensor")
    async with device(cloud, tmp_path / "edge", connection) as edge:
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            await client.send(b"early")
            with pytest.raises(TimeoutError):
                await client.until_acknowledged(1)
            cloud.deploy({}, {"up": "FROM /messages/* INTO $upstream"})
            await client.until_acknowledged()
            await until(cloud.events, "the message arrives")
    assert [event.message.body for event in cloud.events()] == [b"early"]


@pytest.mark.parametrize(
    "bag",
    [{f"p{number}": "v" for number in range(199)}, {"long": "\x01" * 20_500}],
    ids=["many properties", "properties that grow when encoded"],
)
async def test_a_message_that_the_hub_would_not_take_holds_up_nobody_else(
    cloud: Cloud, tmp_path: Path, bag: dict[str, str | None]
) -> None:
    connection, sensor, scorer = await ready_cloud(cloud)
    cloud.deploy({}, {"up": "FROM /messages/* INTO $upstream"})
    topic = topics.events_topic("edge1", "sensor", "&".join(f"{name}={value}" for name, value in bag.items()))
    publish = encode(Publish(topic + "&%24.on=out", b"poison", qos=1, packet_id=1))
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)
        async with raw_module(sensor, edge.gateway_port, edge.gateway_ca, publish) as reader, asyncio.timeout(5):
            assert await reader.read() in (b"", b"\x20\x02\x00\x00")  # no acknowledgement, and the end
        async with ModuleClient(scorer, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            await client.send(b"good")
            await client.until_acknowledged()
            await until(cloud.events, "the good message arrives")
    assert [event.message.body for event in cloud.events()] == [b"good"]


def test_a_folder_that_others_may_enter_is_closed_or_refused(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    new.chmod(0o755)
    Layout(new)
    assert new.stat().st_mode & 0o777 == 0o700
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "letter").touch()
    with pytest.raises(Invalid, match="holds other things"):
        Layout(home)
    assert home.stat().st_mode & 0o777 == 0o755
