"""The client's side: one session over many connections."""

import pytest

from sanderling.errors import Unavailable
from sanderling.mqtt import (
    Acknowledged,
    ClientSession,
    Closed,
    Connack,
    Connect,
    Connected,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    ProtocolError,
    Puback,
    Publish,
    Published,
    Refused,
    Suback,
    Subscribe,
    Subscribed,
    Unsuback,
    Unsubscribe,
    Unsubscribed,
    encode,
)

CONNECT = Connect("d1/m1", clean_session=False, keepalive_s=30)


def sent(client: ClientSession) -> list[Packet]:
    return Decoder().feed(client.take_outgoing())


def connected(client: ClientSession | None = None, now: float = 0) -> ClientSession:
    client = client or ClientSession()
    client.connect(CONNECT, now)
    assert sent(client) == [CONNECT]
    assert client.receive(encode(Connack(0, session_present=True)), now) == [Connected(session_present=True)]
    return client


def test_unacknowledged_messages_come_again_in_order_on_the_next_connection() -> None:
    client = ClientSession()
    client.publish("t", b"0", 0)  # before any connection
    connected(client)
    assert sent(client) == [Publish("t", b"0", qos=1, packet_id=1)]
    client.publish("t", b"1", 1)
    client.publish("t", b"2", 1)
    sent(client)
    assert client.receive(encode(Puback(2)), 1) == [
        Acknowledged(2, Publish("t", b"1", qos=1, packet_id=2, dup=True)),
    ]
    client.connection_lost()
    client.publish("t", b"3", 2)
    connected(client, 3)
    again = sent(client)
    assert [(p.payload, p.dup) for p in again if isinstance(p, Publish)] == [(b"0", True), (b"2", True), (b"3", False)]
    assert [p.payload for p in client.unacked] == [b"0", b"2", b"3"]
    assert client.receive(encode(Puback(999)), 4) == []


def test_qos_0_is_sent_now_or_never() -> None:
    client = ClientSession()
    assert client.publish("t", b"lost", 0, qos=0) is None
    connected(client)
    client.publish("t", b"x", 0, qos=0)
    assert sent(client) == [Publish("t", b"x")]


def test_too_many_unacknowledged_messages_are_refused() -> None:
    client = ClientSession(max_unacked=1)
    client.publish("t", b"", 0)
    with pytest.raises(Unavailable):
        client.publish("t", b"", 0)


def test_what_could_never_be_sent_is_not_kept() -> None:
    client = ClientSession()
    with pytest.raises(ProtocolError):
        client.publish("t" * 70_000, b"", 0)
    assert client.unacked == ()


def test_subscriptions_get_their_answers() -> None:
    client = connected()
    first = client.subscribe((("a/#", 1),), 0)
    second = client.unsubscribe(("b",), 0)
    assert sent(client) == [Subscribe(first, (("a/#", 1),)), Unsubscribe(second, ("b",))]
    answers = encode(Suback(first, (1,))) + encode(Unsuback(second))
    assert client.receive(answers, 1) == [Subscribed(first, (1,)), Unsubscribed(second)]
    assert isinstance(client.receive(encode(Suback(first, (1,))), 1)[0], Closed)


def test_subscribing_needs_a_connection() -> None:
    with pytest.raises(Unavailable):
        ClientSession().subscribe((("a", 1),), 0)


def test_a_message_is_acknowledged_by_the_owner_alone() -> None:
    client = connected()
    message = Publish("a", b"x", qos=1, packet_id=9)
    assert client.receive(encode(message), 0) == [Published(message)]
    assert sent(client) == []
    client.acknowledge(9, 0)
    assert sent(client) == [Puback(9)]
    client.connection_lost()
    client.acknowledge(9, 0)
    assert sent(client) == []


def test_a_ping_goes_out_when_nothing_was_sent_and_must_be_answered() -> None:
    client = connected()
    assert client.deadline == 30
    assert client.tick(29) == []
    assert sent(client) == []
    assert client.tick(30) == []
    assert sent(client) == [Pingreq()]
    assert client.deadline == 50
    client.receive(encode(Pingresp()), 31)
    assert client.deadline == 60
    client.tick(60)
    assert isinstance(client.tick(80)[0], Closed)
    assert not client.is_connected
    assert client.deadline is None
    assert client.tick(81) == []


def test_a_server_that_does_not_answer_connect_is_dead() -> None:
    client = ClientSession(answer_timeout_s=5)
    client.connect(CONNECT, 0)
    assert client.deadline == 5
    assert isinstance(client.tick(5)[0], Closed)


def test_a_refusal_carries_its_code() -> None:
    client = ClientSession()
    client.connect(CONNECT, 0)
    assert client.receive(encode(Connack(5)) + encode(Pingresp()), 0) == [Refused(5)]
    assert not client.is_connected


@pytest.mark.parametrize("packet", [Connack(0), Pingreq(), Suback(1, (0,)), Unsuback(1)])
def test_what_a_server_may_not_send_ends_the_connection(packet: Packet) -> None:
    assert isinstance(connected().receive(encode(packet), 0)[0], Closed)


def test_nothing_comes_before_connack() -> None:
    client = ClientSession()
    assert client.receive(b"\0", 0) == []
    client.connect(CONNECT, 0)
    assert isinstance(client.receive(encode(Publish("a", b"")), 0)[0], Closed)


def test_goodbye() -> None:
    client = connected()
    client.disconnect(0)
    assert sent(client) == [Disconnect()]
    client.connection_lost()
    client.disconnect(0)
    assert sent(client) == []


def test_packet_ids_go_round() -> None:
    client = connected(ClientSession(max_unacked=3))
    client.publish("t", b"kept", 0)
    for _ in range(0xFFFF):
        packet_id = client.publish("t", b"", 0)
        assert packet_id is not None
        client.receive(encode(Puback(packet_id)), 0)
    assert client.publish("t", b"", 0) == 3


def test_a_short_keepalive_does_not_put_off_the_end() -> None:
    client = ClientSession(answer_timeout_s=20)
    connect = Connect("d1", keepalive_s=5)
    client.connect(connect, 0)
    client.receive(encode(Connack(0)), 0)
    for now in (5, 10, 15, 20):
        assert client.tick(now) == []
    assert isinstance(client.tick(25)[0], Closed)
