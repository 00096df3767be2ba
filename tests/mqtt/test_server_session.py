"""The server's side of a connection: bytes in, events and bytes out."""

import pytest

from sanderling.errors import Unavailable
from sanderling.mqtt import (
    SUBSCRIPTION_REFUSED,
    Acknowledged,
    Closed,
    Connack,
    Connect,
    ConnectRequested,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Published,
    ReturnCode,
    ServerSession,
    SessionState,
    Suback,
    Subscribe,
    SubscribeRequested,
    Unsuback,
    Unsubscribe,
    UnsubscribeRequested,
    encode,
)

CONNECT = Connect("d1", clean_session=False, keepalive_s=60)


def connected(state: SessionState | None = None, **options: int) -> ServerSession:
    session = ServerSession(now=0, **options)
    assert session.receive(encode(CONNECT), 0) == [ConnectRequested(CONNECT)]
    session.accept(CONNECT, state or SessionState(), session_present=state is not None)
    assert sent(session)[0] == Connack(0, session_present=state is not None)
    return session


def sent(session: ServerSession) -> list[Packet]:
    return Decoder().feed(session.take_outgoing())


def test_a_client_that_never_connects_is_dropped() -> None:
    session = ServerSession(now=0, connect_timeout_s=5)
    assert session.tick(4.9) == []
    assert isinstance(session.tick(5)[0], Closed)
    assert session.is_closed
    assert session.receive(encode(CONNECT), 6) == []


def test_a_refused_client_reads_why() -> None:
    session = ServerSession(now=0)
    session.receive(encode(CONNECT), 0)
    session.refuse(ReturnCode.NOT_AUTHORIZED)
    assert session.is_closed
    assert sent(session) == [Connack(ReturnCode.NOT_AUTHORIZED)]


def test_a_client_of_another_protocol_level_is_refused_with_1() -> None:
    session = ServerSession(now=0)
    (event,) = session.receive(encode(Connect("d1", protocol_level=5)), 0)
    assert isinstance(event, Closed)
    assert sent(session) == [Connack(ReturnCode.UNACCEPTABLE_PROTOCOL)]


@pytest.mark.parametrize("packet", [Pingreq(), Publish("a", b"")])
def test_nothing_comes_before_connect(packet: Packet) -> None:
    session = ServerSession(now=0)
    assert isinstance(session.receive(encode(packet), 0)[0], Closed)


def test_a_client_need_not_wait_for_the_answer_to_connect() -> None:
    session = ServerSession(now=0)
    message = Publish("a", b"x")
    assert session.receive(encode(CONNECT) + encode(message), 0) == [ConnectRequested(CONNECT)]
    assert session.receive(encode(message), 0) == []
    session.accept(CONNECT, SessionState(), session_present=False)
    assert session.receive(b"", 1) == [Published(message), Published(message)]
    assert session.receive(b"", 1) == []


def test_a_client_that_sends_much_before_the_answer_is_closed() -> None:
    session = ServerSession(now=0)
    events = session.receive(encode(CONNECT) + encode(Pingreq()) * 200, 0)
    assert isinstance(events[-1], Closed)


@pytest.mark.parametrize("packet", [CONNECT, Connack(0), Suback(1, (0,)), Pingresp()])
def test_what_only_a_server_sends_ends_the_connection(packet: Packet) -> None:
    assert isinstance(connected().receive(encode(packet), 1)[0], Closed)


def test_a_silent_client_is_dead_after_one_and_a_half_keepalives() -> None:
    session = connected()
    session.receive(encode(Pingreq()), 10)
    assert sent(session) == [Pingresp()]
    assert session.deadline == 100
    assert session.tick(99) == []
    assert isinstance(session.tick(100)[0], Closed)
    assert session.tick(101) == []


def test_a_client_without_keepalive_gets_the_longest() -> None:
    session = ServerSession(now=0)
    session.accept(Connect("d1"), SessionState(), session_present=False)
    assert session.deadline == 1767


def test_a_message_is_acknowledged_by_the_owner_alone() -> None:
    session = connected()
    message = Publish("a", b"x", qos=1, packet_id=7)
    assert session.receive(encode(message), 1) == [Published(message)]
    assert session.take_outgoing() == b""
    session.acknowledge(7)
    assert sent(session) == [Puback(7)]


def test_subscriptions_are_granted_refused_and_forgotten() -> None:
    session = connected()
    wanted = (("a/#", 1), ("b", 2))
    assert session.receive(encode(Subscribe(3, wanted)), 1) == [SubscribeRequested(3, wanted)]
    session.grant(3, wanted, (1, SUBSCRIPTION_REFUSED))
    assert sent(session) == [Suback(3, (1, SUBSCRIPTION_REFUSED))]
    assert session.state.find_qos("a/b") == 1
    assert session.state.find_qos("b") is None
    assert session.receive(encode(Unsubscribe(4, ("a/#",))), 1) == [UnsubscribeRequested(4, ("a/#",))]
    session.release(4, ("a/#",))
    assert sent(session) == [Unsuback(4)]
    assert session.state.subscriptions == {}


def test_a_malformed_filter_ends_the_connection() -> None:
    assert isinstance(connected().receive(encode(Subscribe(1, (("a#", 1),))), 1)[0], Closed)


def test_what_was_not_acknowledged_comes_again_as_a_duplicate() -> None:
    session = connected()
    first, second = session.publish("a", b"1"), session.publish("a", b"2")
    assert (first, second) == (1, 2)
    assert session.publish("a", b"0", qos=0) is None
    assert [p.payload for p in sent(session) if isinstance(p, Publish)] == [b"1", b"2", b"0"]
    kept = Publish("a", b"1", qos=1, packet_id=1)
    assert session.receive(encode(Puback(1)) * 2, 1) == [Acknowledged(1, kept)]
    again = ServerSession(now=5)
    again.receive(encode(CONNECT), 5)
    again.accept(CONNECT, session.state, session_present=True)
    assert sent(again)[1:] == [Publish("a", b"2", qos=1, packet_id=2, dup=True)]
    assert again.publish("a", b"3") == 3


def test_packet_ids_go_round_and_skip_what_is_unacknowledged() -> None:
    state = SessionState(last_packet_id=0xFFFF, unacked={1: Publish("a", b"", qos=1, packet_id=1)})
    assert state.next_packet_id() == 2


def test_a_client_that_acknowledges_nothing_is_not_sent_more() -> None:
    session = connected(max_unacked=1)
    session.publish("a", b"")
    with pytest.raises(Unavailable):
        session.publish("a", b"")


def test_goodbye_is_graceful_and_ends_what_follows() -> None:
    session = connected()
    events = session.receive(encode(Disconnect()) + encode(Pingreq()), 1)
    assert events == [Closed("the client said goodbye", is_graceful=True)]
    session.publish("a", b"")
    assert session.take_outgoing() == b""


def test_the_server_may_close() -> None:
    session = connected()
    assert session.is_connected
    session.close()
    assert session.is_closed
