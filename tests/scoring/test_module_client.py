"""The module side of the real process, with a real MQTT peer over TLS and a workload socket."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sanderling.mqtt import ReturnCode
from tests.scoring.conftest import Serve
from tests.scoring.edge_peer import DEVICE, HUB, MODULE, EdgePeer

SCRIPT = """
    import json, time
    def init(): pass
    def run(data):
        print("run", data)
        if data == "raise":
            raise ValueError("it cannot be scored")
        if data == "large":
            return "x" * 300_000
        if data.startswith("sleep"):
            time.sleep(float(data[5:]))
        return [json.dumps({"digit": data})]
"""


def answer_to(data: str) -> bytes:
    return json.dumps([json.dumps({"digit": data})]).encode()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[EdgePeer]:
    peer = EdgePeer(tmp_path)
    yield peer
    peer.close()


def test_an_input_is_scored_and_the_body_goes_unchanged_to_the_output(serve: Serve, peer: EdgePeer) -> None:
    process = serve(SCRIPT, env=peer.environment)
    peer.wait_for_module()
    bag = "%24.cid=c%201&%24.mid=m1&%24.ct=text%2Fplain&%24.cdid=d1&row=7&a%20b=x%26y&empty=&none"
    packet_id = peer.send(b"7", bag)
    peer.wait(lambda: peer.acknowledged)
    ((properties, body),) = peer.answers()
    assert body == answer_to("7")
    assert properties == {
        "$.on": "amlOutput",
        "row": "7",
        "a b": "x&y",
        "empty": "",
        "none": None,
        "$.cid": "c 1",
        "$.ct": "application/json",
        "$.ce": "utf-8",
        "AzureMLResponse": "OK",
    }
    assert peer.acknowledged == [packet_id]
    assert peer.order == ["connected", "answer", "answer acknowledged", "input acknowledged"]
    assert peer.client_ids == [f"{DEVICE}/{MODULE}"]
    assert peer.usernames[0].startswith(f"{HUB}/{DEVICE}/{MODULE}/?api-version=")
    process.wait_for_log(f"module: connected to 127.0.0.1:{peer.port} as {DEVICE}/{MODULE}")
    with process.client() as client:
        assert 'messages_total{output="amlOutput"} 1' in client.get("/metrics").text
        assert client.post("/score", content="7").content == body


def test_what_cannot_be_scored_goes_to_the_error_output_with_its_cause(serve: Serve, peer: EdgePeer) -> None:
    serve(SCRIPT, env=peer.environment)
    peer.wait_for_module()
    for body, name in ((b"raise", "amlInput"), (b"\xff", "amlInput"), (b"large", "amlinput"), (b"1", "other")):
        peer.send(body, "row=7", name)
    peer.wait(lambda: len(peer.acknowledged) == 4)
    by_input = {json.loads(body)["message"]: (properties, json.loads(body)) for properties, body in peer.answers()}
    assert len(by_input) == 4
    for properties, body in by_input.values():
        assert properties["$.on"] == "amlError"
        assert properties["AzureMLResponse"] == "Error"
        assert properties["row"] == "7"
        assert body["inputProperties"] == {"row": "7"}
    causes = " ".join(by_input)
    assert "ValueError: it cannot be scored" in causes
    assert "Input cannot be decoded as UTF-8" in causes
    assert "the answer has 300002 bytes" in causes
    assert "input 'other' is not served here" in causes


def test_other_inputs_are_served_when_configured(serve: Serve, peer: EdgePeer) -> None:
    serve(SCRIPT, env={**peer.environment, "SANDERLING_INPUTS": "images, Rows"})
    peer.wait_for_module()
    peer.send(b"1", name="rows")
    peer.send(b"2", name="amlInput")
    peer.wait(lambda: len(peer.acknowledged) == 2)
    assert sorted(str(properties["$.on"]) for properties, _ in peer.answers()) == ["amlError", "amlOutput"]


def test_many_inputs_are_answered_once_each_and_in_order(serve: Serve, peer: EdgePeer) -> None:
    serve(SCRIPT, env=peer.environment)
    peer.wait_for_module()
    for number in range(300):
        peer.send(str(number).encode())
    peer.wait(lambda: len(peer.acknowledged) == 300)
    assert [body for _, body in peer.answers()] == [answer_to(str(number)) for number in range(300)]


def test_an_input_is_not_acknowledged_before_its_answer_is(serve: Serve, peer: EdgePeer) -> None:
    peer.acknowledges_answers = False
    serve(SCRIPT, env=peer.environment)
    peer.wait_for_module()
    peer.send(b"1")
    peer.wait(lambda: peer.published)
    time.sleep(0.3)
    assert peer.acknowledged == []


def test_a_cut_connection_loses_no_input(serve: Serve, peer: EdgePeer) -> None:
    process = serve(SCRIPT, env=peer.environment)
    peer.wait_for_module()
    peer.acknowledges_answers = False
    sent = [peer.send(str(number).encode()) for number in range(20)]
    peer.wait(lambda: len(peer.published) >= 5)
    peer.cut()
    process.wait_for_log("module: disconnected")
    peer.acknowledges_answers = True
    peer.wait(lambda: len(peer.acknowledged) == 20)
    assert sorted(peer.acknowledged) == sorted(sent)
    assert peer.connections == 2
    assert {body for _, body in peer.answers()} == {answer_to(str(number)) for number in range(20)}


def test_it_connects_for_ever_until_it_is_let_in(serve: Serve, peer: EdgePeer) -> None:
    peer.refuses_with = ReturnCode.SERVER_UNAVAILABLE
    process = serve(SCRIPT, env=peer.environment)
    process.wait_for_log("refused with code 3: not available now", count=3)
    peer.refuses_with = ReturnCode.NOT_AUTHORIZED
    process.wait_for_log("refused with code 5: the token is not accepted; is this device's clock right?")
    peer.refuses_with = None
    peer.wait_for_module()
    peer.send(b"1")
    peer.wait(lambda: peer.acknowledged)


def test_http_scores_while_the_edge_hub_is_away(serve: Serve, peer: EdgePeer) -> None:
    process = serve(SCRIPT, env={**peer.environment, "IOTEDGE_WORKLOADURI": "unix:///nowhere/workload.sock"})
    process.wait_for_log("module: cannot connect to", count=2)
    assert "workload API unix:///nowhere/workload.sock" in process.log
    with process.client() as client:
        assert client.post("/score", content="1").content == answer_to("1")
    process.terminate()
    assert process.exit_code(5) == 0


def test_a_peer_with_another_certificate_is_not_trusted(serve: Serve, peer: EdgePeer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = EdgePeer(tmp_path / "other")
    try:
        process = serve(SCRIPT, env={**peer.environment, "SANDERLING_GATEWAY_PORT": str(other.port)})
        process.wait_for_log("CERTIFICATE_VERIFY_FAILED")
        assert other.connections == 0
    finally:
        other.close()


def test_a_stop_finishes_the_input_that_is_being_scored(serve: Serve, peer: EdgePeer) -> None:
    process = serve(SCRIPT, env=peer.environment)
    peer.wait_for_module()
    peer.send(b"sleep0.7")
    while "run sleep0.7" not in process.stdout:
        time.sleep(0.01)
    process.terminate()
    assert process.exit_code(5) == 0
    peer.wait(lambda: peer.order[-1] == "closed")
    assert peer.answers()[0][1] == answer_to("sleep0.7")
    assert len(peer.acknowledged) == 1
    assert "module: disconnected from" in process.log


def test_no_secret_is_logged(serve: Serve, peer: EdgePeer) -> None:
    process = serve(SCRIPT, env=peer.environment)
    peer.wait_for_module()
    process.terminate()
    assert process.exit_code(5) == 0
    assert "SharedAccessSignature" not in process.log + process.stdout
    assert "sig=" not in process.log + process.stdout


def test_a_device_variable_that_is_missing_is_named(serve: Serve, peer: EdgePeer) -> None:
    environment = peer.environment
    del environment["IOTEDGE_MODULEGENERATIONID"]
    process = serve(SCRIPT, env=environment)
    assert process.exit_code() == 2
    assert "IOTEDGE_MODULEGENERATIONID is missing" in process.log
