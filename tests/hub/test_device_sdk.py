"""The unmodified azure-iot-device works against the hub, over TLS on its own port 8883."""

import gc
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from starlette.applications import Starlette

from sanderling.hub import ALL_RIGHTS, Hub
from tests.hub.world import Authority, HubInThread, eventually, make_engine
from tests.loopback import own_address

ADDRESS = own_address()
PORT = 8883  # the client knows no other


def why_not() -> str | None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, PORT))
    except OSError as error:
        return f"cannot listen on {ADDRESS}:{PORT}: {error}"
    return None


pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLSv1_2 is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Callback API version 1 is deprecated:DeprecationWarning"),
    # The client leaves the socket pairs of its earlier connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def garbage_of_the_client_is_collected_here() -> Iterator[None]:
    yield
    gc.collect()  # while the filter above is in force, not in somebody else's test


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls", ADDRESS)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path / "hub.db")
    yield engine
    engine.dispose()


def open_hub(engine: Engine) -> Hub:
    return Hub(engine, bearer={"owner": ALL_RIGHTS}.get)


def make_client(hub: Hub, authority: Authority, device_id: str, module_id: str | None = None) -> Any:
    from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient

    kind = IoTHubDeviceClient if module_id is None else IoTHubModuleClient
    return kind.create_from_connection_string(
        hub.device_connection_string(device_id, ADDRESS, module_id),
        server_verification_cert=authority.ca_path.read_text(),
        connection_retry_interval=1,
    )


@pytest.fixture
def hub(engine: Engine) -> Iterator[Hub]:
    hub = open_hub(engine)
    hub.identities.create("d1")
    yield hub
    hub.close()


def rest_of(hub: Hub) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=hub.rest_routes()))
    return httpx.AsyncClient(
        transport=transport, base_url="https://hub", headers={"Authorization": "Bearer owner"}, timeout=20
    )


def test_telemetry_arrives_with_its_properties(hub: Hub, authority: Authority) -> None:
    from azure.iot.device import Message

    with HubInThread(hub, authority, ADDRESS, PORT):
        client = make_client(hub, authority, "d1")
        message = Message('{"t":1}', message_id="id 1", content_encoding="utf-8", content_type="application/json")
        message.custom_properties["a b"] = "x&y=z/€+1"
        client.send_message(message)
        client.shutdown()
    (event,) = hub.events.read(0)
    assert event.message.body == b'{"t":1}'
    assert event.message.properties == {"a b": "x&y=z/€+1"}
    assert event.message.system_properties == {
        "messageId": "id 1",
        "contentType": "application/json",
        "contentEncoding": "utf-8",
    }


async def test_twins_go_both_ways(hub: Hub, authority: Authority) -> None:
    patches: queue.Queue[dict[str, Any]] = queue.Queue()
    with HubInThread(hub, authority, ADDRESS, PORT):
        client = make_client(hub, authority, "d1")
        client.on_twin_desired_properties_patch_received = patches.put
        assert client.get_twin() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
        client.patch_twin_reported_properties({"temperature": 21.5, "gone": None})
        assert hub.twins.get("d1").reported.values == {"temperature": 21.5}
        async with rest_of(hub) as rest:
            for desired in ({"speed": 5, "mode": {"a": 1}}, {"mode": None}):
                answer = await rest.patch("/twins/d1", json={"properties": {"desired": desired}})
                assert answer.status_code == 200
        assert patches.get(timeout=5) == {"speed": 5, "mode": {"a": 1}, "$version": 2}
        assert patches.get(timeout=5) == {"mode": None, "$version": 3}
        assert client.get_twin()["desired"] == {"speed": 5, "$version": 3}
        client.shutdown()


async def test_a_direct_method_is_answered(hub: Hub, authority: Authority) -> None:
    from azure.iot.device import MethodResponse

    with HubInThread(hub, authority, ADDRESS, PORT):
        client = make_client(hub, authority, "d1")

        def answer(request: Any) -> None:
            reply = {"name": request.name, "got": request.payload}
            client.send_method_response(MethodResponse.create_from_method_request(request, 201, reply))

        client.on_method_request_received = answer
        async with rest_of(hub) as rest:
            document = {"methodName": "re start", "payload": {"x": [1]}, "connectTimeoutInSeconds": 10}
            got = await rest.post("/twins/d1/methods", json=document)
        assert got.json() == {"status": 201, "payload": {"name": "re start", "got": {"x": [1]}}}
        client.shutdown()


async def test_a_method_is_invoked_again_after_the_hub_was_restarted(
    hub: Hub, authority: Authority, engine: Engine
) -> None:
    from azure.iot.device import MethodResponse

    patches: queue.Queue[dict[str, Any]] = queue.Queue()
    with HubInThread(hub, authority, ADDRESS, PORT):
        client = make_client(hub, authority, "d1")
        client.on_method_request_received = lambda request: client.send_method_response(
            MethodResponse.create_from_method_request(request, 200, None)
        )
        client.on_twin_desired_properties_patch_received = patches.put
        client.get_twin()
    await eventually(lambda: not client.connected)
    again = open_hub(engine)
    with HubInThread(again, authority, ADDRESS, PORT):
        await eventually(lambda: client.connected, timeout_s=20)
        async with rest_of(again) as rest:
            await rest.patch("/twins/d1", json={"properties": {"desired": {"after": "restart"}}})
            got = await rest.post("/twins/d1/methods", json={"methodName": "m", "connectTimeoutInSeconds": 10})
            assert got.json() == {"status": 200, "payload": None}
        # The client asks for its twin when it is back, and may tell of that first.
        assert any(patches.get(timeout=5).get("after") == "restart" for _ in range(2))
        client.shutdown()
    again.close()


def test_messages_sent_while_the_hub_is_away_arrive_when_it_is_back(
    hub: Hub, authority: Authority, engine: Engine
) -> None:
    from azure.iot.device import exceptions

    with HubInThread(hub, authority, ADDRESS, PORT):
        client = make_client(hub, authority, "d1")
        client.send_message("before")

    def send() -> None:
        while True:
            try:
                return client.send_message("while away")
            except exceptions.ConnectionFailedError:
                time.sleep(0.1)

    sending = threading.Thread(target=send)
    sending.start()
    again = open_hub(engine)
    with HubInThread(again, authority, ADDRESS, PORT):
        sending.join(30)
        assert not sending.is_alive()
        client.shutdown()
    again.close()
    assert [e.message.body for e in hub.events.read(0)] == [b"before", b"while away"]


def test_a_module_sends_to_an_output(hub: Hub, authority: Authority) -> None:
    hub.identities.create("d1", "m1")
    with HubInThread(hub, authority, ADDRESS, PORT):
        client = make_client(hub, authority, "d1", "m1")
        client.send_message_to_output(json.dumps({"x": 1}), "out1")
        client.shutdown()
    (event,) = hub.events.read(0)
    assert (event.message.module_id, event.message.output) == ("m1", "out1")


def test_a_wrong_key_is_told_apart_from_trouble(hub: Hub, authority: Authority) -> None:
    from azure.iot.device import exceptions

    with HubInThread(hub, authority, ADDRESS, PORT):
        client = make_client(hub, authority, "d1")
        hub.identities.delete("d1")
        hub.identities.create("d1")
        with pytest.raises(exceptions.CredentialError):
            client.connect()
        client.shutdown()
