"""Packets survive the way over the wire, however it is cut; what is malformed is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.mqtt import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    PacketTooLarge,
    Pingreq,
    Pingresp,
    ProtocolError,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
    encode,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
topics = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=40)
identifiers = st.integers(1, 0xFFFF)
bodies = st.binary(max_size=300)
wills = st.builds(Will, topics, bodies, st.integers(0, 2), st.booleans())
users = st.one_of(st.just((None, None)), st.tuples(texts, st.none() | bodies))


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    username, password = draw(users)
    return Connect(
        draw(texts),
        clean_session=draw(st.booleans()),
        keepalive_s=draw(st.integers(0, 0xFFFF)),
        username=username,
        password=password,
        will=draw(st.none() | wills),
    )


@st.composite
def publishes(draw: st.DrawFn) -> Publish:
    qos = draw(st.integers(0, 1))
    return Publish(
        draw(topics),
        draw(bodies),
        qos=qos,
        packet_id=draw(identifiers) if qos else None,
        retain=draw(st.booleans()),
        dup=bool(qos) and draw(st.booleans()),
    )


def some(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, min_size=1, max_size=4).map(tuple)


packets = st.one_of(
    connects(),
    publishes(),
    st.builds(Connack, st.integers(0, 5), st.booleans()),
    st.builds(Puback, identifiers),
    st.builds(Subscribe, identifiers, some(st.tuples(texts, st.integers(0, 2)))),
    st.builds(Suback, identifiers, some(st.sampled_from([0, 1, 2, 0x80]))),
    st.builds(Unsubscribe, identifiers, some(texts)),
    st.builds(Unsuback, identifiers),
    st.sampled_from([Pingreq(), Pingresp(), Disconnect()]),
)


@given(st.lists(packets, max_size=4))
def test_packets_survive_the_wire(sent: list[Packet]) -> None:
    assert Decoder().feed(b"".join(encode(packet) for packet in sent)) == sent


@given(st.lists(packets, min_size=1, max_size=3), st.data())
def test_packets_survive_any_cut_of_the_stream(sent: list[Packet], data: st.DataObject) -> None:
    wire = b"".join(encode(packet) for packet in sent)
    cut = data.draw(st.integers(0, len(wire)))
    decoder = Decoder()
    assert decoder.feed(wire[:cut]) + decoder.feed(wire[cut:]) == sent


@given(packets)
def test_packets_survive_byte_by_byte(sent: Packet) -> None:
    decoder = Decoder()
    assert [p for byte in encode(sent) for p in decoder.feed(bytes((byte,)))] == [sent]


@given(st.binary(max_size=200))
def test_hostile_bytes_give_packets_or_a_protocol_error(wire: bytes) -> None:
    decoder = Decoder(max_packet_bytes=1000)
    try:
        read = decoder.feed(wire)
    except ProtocolError:
        return
    for packet in read:
        assert packet is not None


@given(packets, st.data())
def test_a_damaged_packet_gives_packets_or_a_protocol_error(packet: Packet, data: st.DataObject) -> None:
    wire = bytearray(encode(packet))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        Decoder(max_packet_bytes=2000).feed(bytes(wire))
    except ProtocolError:
        return


@pytest.mark.parametrize(
    "wire",
    [
        b"\x30\xff\xff\xff\xff\x01",  # five bytes of length
        b"\x34\x05\x00\x01a\x00\x01",  # QoS 2
        b"\x36\x05\x00\x01a\x00\x01",  # QoS 3
        b"\x38\x03\x00\x01a",  # a duplicate with QoS 0
        b"\x32\x05\x00\x01a\x00\x00",  # packet id 0
        b"\x30\x03\x00\x01#",  # a wildcard in a topic
        b"\x30\x02\x00\x00",  # an empty topic
        b"\x30\x04\x00\x02\xc3\x28",  # not UTF-8
        b"\x30\x03\x00\x01\x00",  # U+0000
        b"\x30\x03\x00\x09a",  # text longer than the packet
        b"\x80\x06\x00\x01\x00\x01a\x00",  # SUBSCRIBE without its flags
        b"\x82\x02\x00\x01",  # SUBSCRIBE without filters
        b"\x82\x06\x00\x01\x00\x01a\x03",  # SUBSCRIBE with QoS 3
        b"\xa2\x02\x00\x01",  # UNSUBSCRIBE without filters
        b"\x90\x03\x00\x01\x05",  # SUBACK with an unknown code
        b"\x20\x02\x02\x00",  # CONNACK with reserved flags
        b"\xc0\x01\x00",  # PINGREQ with a body
        b"\xc1\x00",  # PINGREQ with flags
        b"\x50\x02\x00\x01",  # PUBREC
        b"\x00\x00",
        b"\xf0\x00",
        b"\x10\x0c\x00\x04HTTP\x04\x02\x00\x00\x00\x00",  # another protocol
        b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00",  # CONNECT with a reserved flag
        b"\x10\x0c\x00\x04MQTT\x04\x42\x00\x00\x00\x00",  # a password without a user
        b"\x10\x0c\x00\x04MQTT\x04\x0a\x00\x00\x00\x00",  # the will's QoS without a will
        b"\x10\x0e\x00\x04MQTT\x04\x06\x00\x00\x00\x00\x00\x00",  # a will without a topic
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x00",  # a byte too many
    ],
)
def test_what_the_specification_forbids_is_refused_for_good(wire: bytes) -> None:
    decoder = Decoder()
    with pytest.raises(ProtocolError):
        decoder.feed(wire)
    with pytest.raises(ProtocolError):
        decoder.feed(encode(Pingreq()))


def test_a_large_packet_is_refused_before_its_body_came() -> None:
    with pytest.raises(PacketTooLarge) as caught:
        Decoder(max_packet_bytes=100).feed(b"\x30\xe4\x00")
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (103, 100)


def test_of_other_protocol_levels_only_the_level_is_read() -> None:
    assert Decoder().feed(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00") == [Connect("", protocol_level=5)]


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ProtocolError):
        encode(Publish("x" * 70_000, b""))
    with pytest.raises(ProtocolError):
        encode(Publish("\ud800", b""))
    with pytest.raises(PacketTooLarge):
        encode(Publish("x", bytes(268_435_456)))


def test_the_longest_form_of_the_length_field_is_read() -> None:
    body = bytes(3_000_000)
    assert Decoder(max_packet_bytes=4_000_000).feed(encode(Publish("t", body))) == [Publish("t", body)]
