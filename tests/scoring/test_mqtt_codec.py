"""The module's MQTT packets, beside the project's own codec, which the edge hub speaks."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling import mqtt
from sanderling_scoring import mqtt_codec
from sanderling_scoring.mqtt_codec import MqttError


def decoded(data: bytes) -> list[mqtt.Packet]:
    return list(mqtt.Decoder().feed(data))


def test_connect_says_who_we_are_and_that_the_session_stays() -> None:
    (packet,) = decoded(mqtt_codec.connect("d1/m1", "hub/d1/m1/?api-version=2019-10-01", "token", 60))
    assert isinstance(packet, mqtt.Connect)
    assert (packet.client_id, packet.username, packet.password) == (
        "d1/m1",
        "hub/d1/m1/?api-version=2019-10-01",
        b"token",
    )
    assert packet.clean_session is False
    assert packet.keepalive_s == 60


@given(st.integers(1, 65535), st.binary(max_size=40_000))
def test_what_we_send_is_what_the_edge_hub_reads(packet_id: int, payload: bytes) -> None:
    data = mqtt_codec.publish(packet_id, "devices/d/é", payload) + mqtt_codec.puback(packet_id)
    data += mqtt_codec.subscribe(packet_id, "devices/d/inputs/#") + mqtt_codec.PINGREQ + mqtt_codec.DISCONNECT
    publish, puback, subscribe, ping, disconnect = decoded(data)
    assert publish == mqtt.Publish("devices/d/é", payload, qos=1, packet_id=packet_id)
    assert puback == mqtt.Puback(packet_id)
    assert subscribe == mqtt.Subscribe(packet_id, (("devices/d/inputs/#", 1),))
    assert (ping, disconnect) == (mqtt.Pingreq(), mqtt.Disconnect())


@given(st.integers(1, 65535), st.binary(max_size=300), st.data())
def test_what_the_edge_hub_sends_is_read_wherever_it_is_split(
    packet_id: int, payload: bytes, draw: st.DataObject
) -> None:
    stream = b"".join(
        mqtt.encode(packet)
        for packet in (
            mqtt.Connack(mqtt.ReturnCode.ACCEPTED, session_present=True),
            mqtt.Suback(packet_id, (1,)),
            mqtt.Publish("a/b", payload, qos=1, packet_id=packet_id, dup=True),
            mqtt.Publish("a/b", payload),
            mqtt.Puback(packet_id),
            mqtt.Pingresp(),
        )
    )
    at = draw.draw(st.integers(0, len(stream)))
    decoder = mqtt_codec.Decoder()
    packets = decoder.feed(stream[:at]) + decoder.feed(stream[at:])
    connack, suback, first, second, puback, _ = packets
    assert isinstance(connack, mqtt_codec.Connack)
    assert (connack.code, connack.is_session_present) == (0, True)
    assert isinstance(suback, mqtt_codec.Suback)
    assert (suback.packet_id, suback.codes) == (packet_id, b"\x01")
    assert isinstance(first, mqtt_codec.Publish)
    assert (first.topic, first.payload, first.packet_id, first.is_dup) == ("a/b", payload, packet_id, True)
    assert isinstance(second, mqtt_codec.Publish)
    assert (second.qos, second.packet_id, second.payload) == (0, 0, payload)
    assert isinstance(puback, mqtt_codec.Puback)


@pytest.mark.parametrize(
    "data",
    [
        b"\x34\x03\x00\x01a",  # QoS 2
        b"\x30\x02\x00\x05",  # a topic longer than its packet
        b"\x30\x03\x00\x01#",  # a wildcard
        b"\x30\x03\x00\x01\xff",  # no UTF-8
        b"\x32\x05\x00\x01a\x00\x00",  # packet id 0
        b"\x42\x02\x00\x01",  # flags on PUBACK
        b"\x20\x02\x02\x00",  # a reserved flag of CONNACK
        b"\xd0\x01\x00",  # PINGRESP with a body
        b"\x10\x00",  # CONNECT from a server
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\xff\xff\xff\x7f",  # a packet of 256 MiB
    ],
)
def test_what_a_server_may_not_send_is_refused(data: bytes) -> None:
    with pytest.raises(MqttError):
        mqtt_codec.Decoder().feed(data)


@given(st.binary(max_size=60))
def test_any_bytes_give_packets_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(MqttError):
        mqtt_codec.Decoder().feed(data)
