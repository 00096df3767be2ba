import asyncio
import contextlib
import json
import socket
import ssl
from pathlib import Path

import pytest
from azure.iot.device import Message as AzureMessage
from azure.iot.device.aio import IoTHubModuleClient
from tests.edge.cloud import Cloud, until
from tests.edge.module_client import ModuleClient
from tests.edge.test_runtime import device
from tests.loopback import own_address

from sanderling.iot import topics

pytestmark = pytest.mark.anyio

ROUTES = {
    "up": "FROM /messages/modules/sensor/outputs/out INTO $upstream",
    "in": 'FROM /messages/modules/sensor/outputs/in INTO BrokeredEndpoint("/modules/scorer/inputs/amlInput")',
    "alarm": "FROM /messages/modules/* WHERE level = 'high' INTO $upstream",
}


async def ready_cloud(cloud: Cloud) -> tuple[str, str, str]:
    connection = cloud.create_device()
    sensor, scorer = cloud.create_module("sensor"), cloud.create_module("scorer")
    cloud.deploy({}, ROUTES)
    return connection, sensor, scorer


async def until_routes(cloud: Cloud) -> None:
    await until(
        lambda: cloud.reported(module="$edgeHub").get("lastDesiredStatus", {}).get("code") == 200, "routes are applied"
    )


async def test_a_message_is_routed_upstream_with_its_properties(cloud: Cloud, tmp_path: Path) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            await client.publish(b'{"a":1}', {"$.on": "out", "$.mid": "m1", "$.did": "forged", "colour": "blue +&="})
            await client.until_acknowledged()
            await until(cloud.events, "the message arrives")
    (event,) = cloud.events()
    message = event.message
    assert (message.device_id, message.module_id, message.output, message.body) == (
        "edge1",
        "sensor",
        "out",
        b'{"a":1}',
    )
    assert message.properties == {"colour": "blue +&="}
    assert message.system_properties["messageId"] == "m1"


async def test_a_message_reaches_a_modules_input_and_is_sent_again_until_acknowledged(
    cloud: Cloud, tmp_path: Path
) -> None:
    connection, sensor, scorer = await ready_cloud(cloud)
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            for number in range(30):
                await client.send(str(number).encode(), "in", n=str(number))
            await client.until_acknowledged()
        first = ModuleClient(scorer, "localhost", edge.gateway_port, edge.gateway_ca)
        first.acknowledge_inputs = False
        await first.connect()
        assert [int((await first.receive()).payload) for _ in range(20)] == list(range(20))
        await first.close()
        async with ModuleClient(scorer, "localhost", edge.gateway_port, edge.gateway_ca) as second:
            got = [await second.receive() for _ in range(30)]
            assert [int(p.payload) for p in got] == list(range(30))
            parsed = topics.parse_downward(got[7].topic)
            assert isinstance(parsed, topics.ModuleMessage)
            assert (parsed.module_id, parsed.input, parsed.bag["n"]) == ("scorer", "amlInput", "7")
            assert parsed.bag["$.cmid"] == "sensor"
            assert "$.did" not in parsed.bag
        async with ModuleClient(scorer, "localhost", edge.gateway_port, edge.gateway_ca) as third:
            with pytest.raises(TimeoutError):
                await third.receive(0.5)


async def test_over_an_outage_and_a_restart_of_the_device_no_message_is_lost_and_none_comes_twice(
    cloud: Cloud, tmp_path: Path
) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    sent = 0

    async def send(client: ModuleClient, count: int) -> None:
        nonlocal sent
        for _ in range(count):
            await client.send(json.dumps({"n": sent}).encode())
            sent += 1
        await client.until_acknowledged()

    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            await send(client, 150)
            await asyncio.to_thread(cloud.stop)
            await send(client, 150)
    # The device starts without the hub, and lets its modules in.
    async with device(cloud, tmp_path / "edge", connection) as edge:
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            await send(client, 150)
            await asyncio.to_thread(cloud.start)
            await send(client, 50)
            await until(lambda: len(cloud.events()) >= sent, "all messages arrive", 40)
            await asyncio.sleep(0.5)
    numbers = [json.loads(event.message.body)["n"] for event in cloud.events()]
    assert numbers == list(range(sent))


async def test_conditions_decide_and_a_message_without_a_route_goes_nowhere(cloud: Cloud, tmp_path: Path) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            await client.send(b"1", "elsewhere", level="low")
            await client.send(b"2", "elsewhere", level="high")
            await client.send(b"3", "out", level="high")
            await client.until_acknowledged()
            await until(lambda: len(cloud.events()) >= 2, "two messages arrive")
            await asyncio.sleep(0.3)
    assert [event.message.body for event in cloud.events()] == [b"2", b"3"]


async def test_strangers_are_refused_and_the_unknown_wait_while_the_hub_cannot_be_asked(
    cloud: Cloud, tmp_path: Path
) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)

        async def answer(text: str, **more: float) -> int | None:
            client = ModuleClient(text, "localhost", edge.gateway_port, edge.gateway_ca)
            await client.connect(subscribe=False, **more)  # type: ignore[arg-type]
            await client.close()
            return client.refused

        assert await answer(sensor) is None
        assert await answer(sensor, expires_in_s=-10) == 5
        wrong = sensor.rpartition("SharedAccessKey=")[0] + "SharedAccessKey=" + "A" * 43 + "="
        assert await answer(wrong) == 5
        assert await answer(sensor.replace("ModuleId=sensor", "ModuleId=scorer")) == 5
        assert await answer(sensor.replace("ModuleId=sensor", "ModuleId=$edgeHub")) == 5
        late = cloud.create_module("late")
        assert await answer(late) is None
        later = cloud.create_module("later")
        await asyncio.to_thread(cloud.stop)
        assert await answer(later) == 3
        assert await answer(sensor) is None


async def test_a_module_cannot_speak_for_another(cloud: Cloud, tmp_path: Path) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    async with device(cloud, tmp_path / "edge", connection) as edge:
        await until_routes(cloud)
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            await client.publish(b"x", {"$.on": "out"}, module="scorer")
            await client.until(lambda: not client.session.is_connected)
    assert not cloud.events()


@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\n\r\n" * 9, b"\x10\xff\xff\xff\xff", b"\x30\x02\x00\x00", b"\xff" * 300]
)
async def test_junk_on_the_gateway_ends_that_connection_only(cloud: Cloud, tmp_path: Path, junk: bytes) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    async with device(cloud, tmp_path / "edge", connection) as edge:
        tls = ssl.create_default_context(cafile=str(edge.gateway_ca))
        reader, writer = await asyncio.open_connection("localhost", edge.gateway_port, ssl=tls)
        writer.write(junk)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            assert client.session.is_connected


async def test_a_full_store_makes_the_sender_wait_and_drops_nothing(cloud: Cloud, tmp_path: Path) -> None:
    connection, sensor, _ = await ready_cloud(cloud)
    async with device(cloud, tmp_path / "edge", connection, max_store_bytes=200_000) as edge:
        await until_routes(cloud)
        await asyncio.to_thread(cloud.stop)
        async with ModuleClient(sensor, "localhost", edge.gateway_port, edge.gateway_ca) as client:
            for number in range(40):
                await client.send(json.dumps({"n": number, "fill": "x" * 10_000}).encode())
            with contextlib.suppress(TimeoutError):
                await client.until_acknowledged(2)
            assert 15 <= len(client.session.unacked) <= 25
            await asyncio.to_thread(cloud.start)
            await client.until_acknowledged(40)
            await until(lambda: len(cloud.events()) >= 40, "all messages arrive", 30)
    assert [json.loads(event.message.body)["n"] for event in cloud.events()] == list(range(40))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the azure client itself
async def test_an_unmodified_azure_module_client_sends_receives_and_uses_its_twin(cloud: Cloud, tmp_path: Path) -> None:
    address = own_address()
    with socket.socket() as probe:
        try:
            probe.bind((address, 8883))
        except OSError as e:
            pytest.skip(f"{address}:8883 cannot be used here: {e}")
    connection, _, scorer = await ready_cloud(cloud)
    sensor = cloud.create_module("sensor2")
    routes = {
        "in": 'FROM /messages/modules/sensor2/outputs/in INTO BrokeredEndpoint("/modules/scorer/inputs/amlInput")',
        "up": "FROM /messages/modules/scorer/* INTO $upstream",
    }
    cloud.deploy({}, routes, more={"scorer": {"properties.desired": {"threshold": 5}}})
    settings = {"gateway_host": address, "gateway_port": 8883}
    async with device(cloud, tmp_path / "edge", connection, **settings) as edge:
        await until_routes(cloud)
        ca = edge.gateway_ca.read_text()
        clients = [
            IoTHubModuleClient.create_from_connection_string(
                f"{text};GatewayHostName={address}", server_verification_cert=ca
            )
            for text in (sensor, scorer)
        ]
        inputs: asyncio.Queue[AzureMessage] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def on_message(message: AzureMessage) -> None:
            loop.call_soon_threadsafe(inputs.put_nowait, message)

        try:
            for client in clients:
                await asyncio.wait_for(client.connect(), 20)
            # It subscribes before it returns, and the gateway lives on this loop.
            await asyncio.to_thread(setattr, clients[1], "on_message_received", on_message)
            message = AzureMessage('{"data": [1]}', content_encoding="utf-8", content_type="application/json")
            message.custom_properties["trace"] = "t1"
            await asyncio.wait_for(clients[0].send_message_to_output(message, "in"), 20)
            got = await asyncio.wait_for(inputs.get(), 20)
            assert (got.input_name, got.data, got.custom_properties["trace"]) == ("amlInput", b'{"data": [1]}', "t1")
            await asyncio.wait_for(clients[1].send_message_to_output(AzureMessage("answer"), "amlOutput"), 20)
            await until(cloud.events, "the answer arrives")
            twin = await asyncio.wait_for(clients[1].get_twin(), 20)
            assert twin["desired"]["threshold"] == 5
            await asyncio.wait_for(clients[1].patch_twin_reported_properties({"seen": 5}), 20)
            await until(lambda: cloud.reported(module="scorer").get("seen") == 5, "reported is brought in step")
        finally:
            for client in clients:
                await client.shutdown()
    (event,) = cloud.events()
    assert (event.message.module_id, event.message.output, event.message.body) == ("scorer", "amlOutput", b"answer")
