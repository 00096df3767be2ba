"""MQTT as devices meet it, over a plain socket: who is let in, and what happens to what they send."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import Engine, text

from sanderling.hub import Hub, MqttServer
from sanderling.hub.connections import Client
from sanderling.hub.identities import IdentityChange
from sanderling.iot import sas, topics
from sanderling.iot.identity import EDGE_HUB
from sanderling.mqtt import Acknowledged, Connect, Event, Publish, Will, encode
from tests.hub.world import Clock, Device, connect_packet, eventually

pytestmark = pytest.mark.anyio
Join = Callable[[Connect], Awaitable[Device]]


@pytest.fixture
async def server(hub: Hub) -> AsyncIterator[MqttServer]:
    async with hub.mqtt_server("127.0.0.1", 0, None) as server:
        yield server


@pytest.fixture
async def join(server: MqttServer) -> AsyncIterator[Join]:
    devices: list[Device] = []

    async def connect(packet: Connect) -> Device:
        devices.append(await Device.connect(server.port, packet))
        return devices[-1]

    yield connect
    for device in devices:
        await device.close()


def is_ack(event: Event) -> bool:
    return isinstance(event, Acknowledged)


async def joined(join: Join, packet: Connect) -> Device:
    device = await join(packet)
    assert device.session.is_connected, device.seen
    return device


async def refusal(server: MqttServer, packet: Connect) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(encode(packet))
    async with asyncio.timeout(5):
        answer = await reader.readexactly(4)
    writer.close()
    assert answer[:2] == b"\x20\x02"
    return answer[3]


async def test_telemetry_is_acknowledged_and_stored_with_its_properties(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    await device.publish("devices/d1/messages/events/%24.ct=application%2Fjson&a=1", b'{"x":1}')
    await device.until(is_ack)
    (event,) = hub.events.read(0)
    assert event.message.body == b'{"x":1}'
    assert event.message.properties == {"a": "1"}
    assert event.message.system_properties == {"contentType": "application/json"}
    assert (event.message.device_id, event.message.module_id, event.sequence) == ("d1", None, 1)


async def test_many_messages_keep_their_order(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    for number in range(300):
        await device.publish("devices/d1/messages/events/", str(number).encode())
    acknowledged = [await device.until(is_ack) for _ in range(300)]
    assert [a.packet_id for a in acknowledged if isinstance(a, Acknowledged)] == list(range(1, 301))
    assert [int(e.message.body) for e in hub.events.read(0, limit=1000)] == list(range(300))


async def test_a_message_sent_twice_with_its_delivery_id_is_there_once(hub: Hub, join: Join) -> None:
    hub.identities.create("d1", None, IdentityChange(is_edge=True))
    device = await joined(join, connect_packet(hub, "d1", EDGE_HUB))
    for bag in ("%24.did=one", "%24.did=one", "%24.did=two"):
        await device.publish(f"devices/d1/modules/m/messages/events/%24.on=out&{bag}", b"x")
        await device.until(is_ack)
    events = hub.events.read(0)
    assert [(e.message.module_id, e.message.output, dict(e.message.properties)) for e in events] == [
        ("m", "out", {}),
        ("m", "out", {}),
    ]


async def test_delivery_ids_of_different_devices_do_not_meet(hub: Hub, join: Join) -> None:
    for name in ("d1", "d2"):
        hub.identities.create(name)
        device = await joined(join, connect_packet(hub, name))
        await device.publish(f"devices/{name}/messages/events/%24.did=one", b"x")
        await device.until(is_ack)
    assert len(hub.events.read(0)) == 2


async def test_a_hub_that_dies_between_commit_and_acknowledgement_keeps_the_message_once(
    hub: Hub, engine: Engine, clock: Clock
) -> None:
    hub.identities.create("d1")
    topic = "devices/d1/messages/events/%24.did=only"
    async with hub.mqtt_server("127.0.0.1", 0, None) as server:
        device = await Device.connect(server.port, connect_packet(hub, "d1"))
        # The client is deaf from here on: it never sees the acknowledgement, as if the hub had died before it.
        await device.publish(topic, b"x")
        assert await hub.events.wait(0, timeout_s=5)
        await device.close()
    again = Hub(engine, clock=clock)
    async with again.mqtt_server("127.0.0.1", 0, None) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        session = device.session
        session.connect(connect_packet(again, "d1"), 0)
        writer.write(session.take_outgoing())
        session.receive(await reader.readexactly(4), 0)
        resent = session.take_outgoing()
        assert resent[0] & 0x08  # DUP
        writer.write(resent)
        async with asyncio.timeout(5):
            assert await reader.readexactly(4) == b"\x40\x02\x00\x01"
        writer.close()
    again.close()
    assert len(hub.events.read(0)) == 1


async def test_what_cannot_be_stored_is_not_acknowledged(hub: Hub, join: Join, engine: Engine) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    with engine.begin() as db:
        db.execute(text("ALTER TABLE hub_events RENAME TO hub_events_gone"))
    await device.publish("devices/d1/messages/events/", b"x")
    await device.ended()
    assert not any(is_ack(event) for event in device.seen)


@pytest.mark.parametrize("case", ["unknown", "key", "expired", "disabled", "none", "client id", "username", "garbage"])
async def test_who_cannot_prove_who_it_is_gets_5(
    hub: Hub, join: Join, server: MqttServer, clock: Clock, case: str
) -> None:
    hub.identities.create("d1")
    packet = connect_packet(hub, "d1")
    match case:
        case "unknown":
            hub.identities.delete("d1")
        case "key":
            packet = connect_packet(hub, "d1", key="b3RoZXJvdGhlcm90aGVyb3RoZXI=")
        case "expired":
            clock.now += 3600
        case "disabled":
            hub.identities.update("d1", None, IdentityChange(is_enabled=False))
        case "none":
            packet = replace(packet, password=None)
        case "client id":
            packet = replace(packet, client_id="d2")
        case "username":
            packet = replace(packet, username="d1")
        case "garbage":
            packet = replace(packet, password=b"\xff\x00")
    assert await refusal(server, packet) == 5


async def test_a_module_of_a_disabled_device_gets_5(hub: Hub, join: Join, server: MqttServer) -> None:
    hub.identities.create("d1", None, IdentityChange(is_edge=True))
    hub.identities.update("d1", None, IdentityChange(is_enabled=False))
    assert await refusal(server, connect_packet(hub, "d1", EDGE_HUB)) == 5


async def test_a_device_key_does_not_open_its_modules(hub: Hub, join: Join, server: MqttServer) -> None:
    device = hub.identities.create("d1", None, IdentityChange(is_edge=True))
    packet = connect_packet(hub, "d1", EDGE_HUB, key=device.primary_key)
    token = sas.build("hub.example/devices/d1", device.primary_key, 1_800_003_600)
    assert await refusal(server, packet) == 5
    assert await refusal(server, replace(packet, password=token.encode())) == 5


async def test_a_hub_in_trouble_answers_3_so_that_clients_come_again(
    hub: Hub, join: Join, server: MqttServer, engine: Engine
) -> None:
    hub.identities.create("d1")
    packet = connect_packet(hub, "d1")
    with engine.begin() as db:
        db.execute(text("ALTER TABLE hub_identities RENAME TO gone"))
    assert await refusal(server, packet) == 3


async def test_a_policy_that_may_connect_opens_every_device(hub: Hub, join: Join, policy_token: Any) -> None:
    hub.identities.create("d1")
    packet = connect_packet(hub, "d1")
    await joined(join, replace(packet, password=policy_token("device").encode()))
    refused = await join(replace(packet, password=policy_token("service").encode()))
    assert not refused.session.is_connected


async def test_a_connection_ends_with_its_token(hub: Hub, join: Join, clock: Clock) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1", expires_at=int(clock()) + 1))
    await device.ended()


async def test_the_newest_connection_wins(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    old = await joined(join, connect_packet(hub, "d1"))
    new = await joined(join, connect_packet(hub, "d1"))
    await old.ended()
    await new.publish("devices/d1/messages/events/", b"x")
    await new.until(is_ack)
    assert hub.connections.takeovers_total == 1
    assert hub.connections.is_connected("d1")


async def test_connection_state_follows_the_connection(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    assert not hub.connections.is_connected("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    assert hub.connections.is_connected("d1")
    await device.close()
    await eventually(lambda: not hub.connections.is_connected("d1"))
    found = hub.identities.get("d1")
    assert found.last_activity_at is not None


async def test_an_edge_device_is_seen_when_its_edge_runtime_is(hub: Hub, join: Join) -> None:
    hub.identities.create("d1", change=IdentityChange(is_edge=True))
    hub.identities.create("d1", "sensor")
    await joined(join, connect_packet(hub, "d1", "sensor"))
    assert hub.identities.get("d1").last_activity_at is None
    await joined(join, connect_packet(hub, "d1", EDGE_HUB))
    device, edge_hub = hub.identities.get("d1"), hub.identities.get("d1", EDGE_HUB)
    assert device.last_activity_at == edge_hub.last_activity_at
    assert device.connection_updated_at is not None


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("nonsense", b""),
        ("devices/d2/messages/events/", b""),
        ("devices/d1/modules/m/messages/events/", b""),
        ("devices/d1/messages/events/%ff=1", b""),
        ("devices/d1/messages/events/", bytes(262_145)),
        ("devices/d1/messages/events/", bytes(400_000)),
    ],
)
async def test_what_may_not_be_published_ends_the_connection_and_is_not_stored(
    hub: Hub, join: Join, topic: str, body: bytes
) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    await device.publish(topic, body)
    await device.ended()
    assert hub.events.read(0) == []


async def test_the_largest_message_is_taken(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    await device.publish("devices/d1/messages/events/", bytes(262_144))
    await device.until(is_ack)


async def test_an_identity_subscribes_to_its_own_things_only(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    codes = await device.subscribe("devices/d2/messages/devicebound/#", topics.TWIN_RESPONSES, "#")
    assert codes == (0x80, 1, 0x80)


async def test_subscriptions_survive_a_restart_of_the_hub(hub: Hub, engine: Engine, clock: Clock) -> None:
    hub.identities.create("d1")
    async with hub.mqtt_server("127.0.0.1", 0, None) as server:
        device = await Device.connect(server.port, connect_packet(hub, "d1"))
        await device.subscribe(topics.TWIN_RESPONSES, topics.DESIRED_PATCHES)
        await device.close()
    again = Hub(engine, clock=clock)
    async with again.mqtt_server("127.0.0.1", 0, None) as server:
        device = await Device.connect(server.port, connect_packet(again, "d1"))
        await device.publish(topics.twin_get_topic("r1"), b" ")
        answer = await device.message("$iothub/twin/res/200/?$rid=r1")
        assert json.loads(answer.publish.payload)["desired"] == {"$version": 1}
        await device.close()
        clean = await Device.connect(server.port, connect_packet(again, "d1", clean_session=True))
        await clean.close()
        device = await Device.connect(server.port, connect_packet(again, "d1"))
        assert await device.subscribe(topics.METHOD_REQUESTS) == (1,)
        await device.close()
    again.close()


async def test_session_present_is_told(hub: Hub, server: MqttServer) -> None:
    hub.identities.create("d1")
    for expected in (False, True):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(encode(connect_packet(hub, "d1")))
        assert await reader.readexactly(4) == bytes((0x20, 2, expected, 0))
        writer.close()


async def test_a_reported_patch_is_merged_and_answered_with_its_version(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    await device.subscribe(topics.TWIN_RESPONSES)
    await device.publish(topics.reported_patch_topic("a1"), b'{"t":{"x":1,"y":2}}')
    answer = await device.message("$iothub/twin/res/204/")
    assert topics.parse_downward(answer.publish.topic) == topics.TwinResponse(204, "a1", 2)
    await device.publish(topics.reported_patch_topic("a2"), b'{"t":{"x":null}}')
    await device.message("$iothub/twin/res/204/")
    assert hub.twins.get("d1").reported.values == {"t": {"y": 2}}
    await device.publish(topics.reported_patch_topic("a3"), b"[1]")
    refused = await device.message("$iothub/twin/res/400/")
    assert "not a JSON object" in json.loads(refused.publish.payload)["message"]


async def test_a_will_is_stored_when_the_client_goes_without_a_word(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    will = Will("devices/d1/messages/events/a=1", b"gone", qos=1)
    device = await joined(join, connect_packet(hub, "d1", will=will))
    await device.close()
    (event,) = await hub.events.wait(0, timeout_s=5)
    assert event.message.body == b"gone"
    assert event.message.properties == {"a": "1", "iothub-MessageType": "Will"}


async def test_hostile_bytes_end_the_connection_only(hub: Hub, server: MqttServer, join: Join) -> None:
    for wire in (b"GET / HTTP/1.1\r\n" * 9, b"\x10\xff\xff\xff\xff", bytes(100), b"\xc0\x00"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(wire)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
    hub.identities.create("d1")
    await joined(join, connect_packet(hub, "d1"))


async def test_connections_over_the_limit_are_refused(hub: Hub) -> None:
    from sanderling.hub.mqtt_endpoint import MqttEndpoint

    async with MqttEndpoint(hub._parts, max_connections=1).serve("127.0.0.1", 0, None) as server:
        _, first_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        first_writer.close()


async def test_a_deleted_device_is_dropped(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    hub.connections.drop("d1", None, "it was deleted")
    await device.ended()


async def test_a_twin_that_cannot_be_read_is_answered_late_and_the_connection_stays(
    hub: Hub, join: Join, engine: Engine
) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    await device.subscribe(topics.TWIN_RESPONSES)
    with engine.begin() as db:
        db.execute(text("ALTER TABLE hub_twins RENAME TO gone"))
    await device.publish(topics.twin_get_topic("r1"), b"")
    await device.message("$iothub/twin/res/500/?$rid=r1")
    with engine.begin() as db:
        db.execute(text("ALTER TABLE gone RENAME TO hub_twins"))
    await device.publish(topics.twin_get_topic("r2"), b"")
    await device.message("$iothub/twin/res/200/?$rid=r2")


async def test_a_report_that_cannot_be_stored_is_not_acknowledged(hub: Hub, join: Join, engine: Engine) -> None:
    hub.identities.create("d1")
    device = await joined(join, connect_packet(hub, "d1"))
    with engine.begin() as db:
        db.execute(text("ALTER TABLE hub_twins RENAME TO gone"))
    await device.publish(topics.reported_patch_topic("r1"), b"{}")
    await device.ended()
    assert not any(is_ack(event) for event in device.seen)


async def test_a_client_that_fights_for_its_identity_is_slowed(hub: Hub, join: Join) -> None:
    hub.identities.create("d1")
    loop = asyncio.get_running_loop()
    for _ in range(4):
        await joined(join, connect_packet(hub, "d1"))
    began = loop.time()
    await joined(join, connect_packet(hub, "d1"))
    assert loop.time() - began > 0.4


async def test_a_retained_message_is_marked(hub: Hub, server: MqttServer) -> None:
    hub.identities.create("d1")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    message = Publish("devices/d1/messages/events/", b"x", qos=1, packet_id=1, retain=True)
    # In one piece with CONNECT: a client need not wait.
    writer.write(encode(connect_packet(hub, "d1")) + encode(message))
    assert await reader.readexactly(8) == b"\x20\x02\x00\x00\x40\x02\x00\x01"
    assert hub.events.read(0)[0].message.properties == {"mqtt-retain": "true"}
    writer.close()
    await writer.wait_closed()


async def test_who_is_deleted_while_being_let_in_is_not_let_in(
    hub: Hub, server: MqttServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.identities.create("d1")
    add = hub.connections.add

    def late(client: Client) -> int:
        # The deletion comes after the device was found, and finds no connection that it could drop.
        hub.identities.delete("d1")
        hub.connections.drop("d1", None, "it was deleted")
        return add(client)

    monkeypatch.setattr(hub.connections, "add", late)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(encode(connect_packet(hub, "d1")))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        async with asyncio.timeout(5):
            await reader.readexactly(4)
    writer.close()
    await eventually(lambda: hub.connections.count() == 0)


async def test_new_keys_end_the_connection_that_the_old_ones_made(hub: Hub, rest: AsyncClient, join: Join) -> None:
    hub.identities.create("d1")
    await joined(join, connect_packet(hub, "d1"))
    keys = {"primaryKey": hub.identities.new_key(), "secondaryKey": hub.identities.new_key()}
    body = {"deviceId": "d1", "authentication": {"type": "sas", "symmetricKey": keys}}
    answer = await rest.put("/devices/d1", json=body, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    await eventually(lambda: hub.connections.count() == 0)
