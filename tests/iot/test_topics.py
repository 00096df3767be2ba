"""Topics, bags and messages survive the wire in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.iot import Message, identity, property_bag, topics

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
bags = st.dictionaries(names, st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=8)


@given(bags)
def test_a_bag_survives_the_wire(bag: dict[str, str | None]) -> None:
    assert property_bag.decode(property_bag.encode(bag)) == bag


def test_a_bag_is_what_the_public_client_sends() -> None:
    text = "%24.mid=mid%201&%24.ct=application%2Fjson&a%20b=x%26y%3Dz%2F%E2%82%AC&plus=1+1&none&empty="
    assert property_bag.decode(text) == {
        "$.mid": "mid 1",
        "$.ct": "application/json",
        "a b": "x&y=z/€",
        "plus": "1+1",
        "none": None,
        "empty": "",
    }


def test_a_property_without_a_name_is_left_out() -> None:
    assert property_bag.decode("&=x&a=1&") == {"a": "1"}


def test_a_plain_message_has_an_empty_bag() -> None:
    assert Message(b"", "d1").encoded_bag() == ""


@pytest.mark.parametrize("bag", ["%ff=1", "&".join(f"k{n}=" for n in range(300))])
def test_a_bad_bag_is_refused(bag: str) -> None:
    with pytest.raises(Invalid):
        property_bag.decode(bag)


def test_a_message_keeps_system_output_and_delivery_apart() -> None:
    sent = Message(
        b"{}",
        "d1",
        "m1",
        output="out",
        properties={"a": "1", "none": None},
        system_properties={"messageId": "1", "contentType": "application/json"},
        delivery_id="abc",
    )
    topic = topics.events_topic("d1", "m1", sent.encoded_bag())
    parsed = topics.parse_upward(topic)
    assert isinstance(parsed, topics.Telemetry)
    assert Message.from_bag(b"{}", parsed.bag, device_id="d1", module_id="m1") == sent


@pytest.mark.parametrize(("body", "bag"), [(bytes(262_145), {}), (b"", {"$.did": "x" * 65}), (b"", {"$.did": ""})])
def test_a_message_over_its_limits_is_refused(body: bytes, bag: dict[str, str | None]) -> None:
    with pytest.raises(Invalid):
        Message.from_bag(body, bag, device_id="d1")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("devices/d1/messages/events/", topics.Telemetry("d1", None, {})),
        ("devices/d1/messages/events", topics.Telemetry("d1", None, {})),
        ("devices/d1/modules/$edgeHub/messages/events/a=1/", topics.Telemetry("d1", "$edgeHub", {"a": "1"})),
        ("$iothub/twin/GET/?$rid=1-2", topics.TwinGet("1-2")),
        ("$iothub/twin/PATCH/properties/reported/?$rid=x", topics.ReportedPatch("x")),
        ("$iothub/methods/res/200/?$rid=ab", topics.MethodResponse(200, "ab")),
    ],
)
def test_topics_to_the_hub_are_read(topic: str, expected: topics.Upward) -> None:
    assert topics.parse_upward(topic) == expected


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (topics.twin_response_topic(204, "a b", 8), topics.TwinResponse(204, "a b", 8)),
        (topics.twin_response_topic(200, "r"), topics.TwinResponse(200, "r", None)),
        (topics.desired_patch_topic(4), topics.DesiredPatch(4)),
        (topics.method_request_topic("re start/it", "1f"), topics.MethodRequest("re start/it", "1f")),
        (topics.input_topic("d1", "m1", "in/1", "a=1"), topics.ModuleMessage("d1", "m1", "in/1", {"a": "1"})),
        (topics.devicebound_topic("d1", "a=1"), topics.CloudToDevice("d1", {"a": "1"})),
    ],
)
def test_topics_from_the_hub_are_read_as_they_were_built(topic: str, expected: topics.Downward) -> None:
    assert topics.parse_downward(topic) == expected


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (topics.twin_get_topic("1"), topics.TwinGet("1")),
        (topics.reported_patch_topic("1"), topics.ReportedPatch("1")),
        (topics.method_response_topic(-1, "1"), topics.MethodResponse(-1, "1")),
    ],
)
def test_topics_to_the_hub_are_read_as_they_were_built(topic: str, expected: topics.Upward) -> None:
    assert topics.parse_upward(topic) == expected


@pytest.mark.parametrize("topic", ["", "x", "$iothub/twin/GET/", "devices/d1/twin", "$iothub/methods/res/x/?$rid=1"])
def test_other_topics_are_unknown(topic: str) -> None:
    with pytest.raises(topics.UnknownTopic):
        topics.parse_upward(topic)
    with pytest.raises(topics.UnknownTopic):
        topics.parse_downward(topic)


@pytest.mark.parametrize(
    "topic",
    ["$iothub/twin/GET/?$rid=", "$iothub/twin/GET/?a=1", "devices/a b/messages/events/", "devices/../messages/events/"],
)
def test_a_known_topic_with_a_bad_part_is_refused(topic: str) -> None:
    with pytest.raises(Invalid):
        topics.parse_upward(topic)


def test_an_identity_subscribes_to_its_own_things_only() -> None:
    own = [topics.TWIN_RESPONSES, topics.DESIRED_PATCHES, topics.METHOD_REQUESTS]
    assert all(topics.is_allowed_filter(f, "d1", "m1") for f in [*own, topics.inputs_filter("d1", "m1")])
    assert all(topics.is_allowed_filter(f, "d1", None) for f in [*own, topics.devicebound_filter("d1")])
    others = ["#", "$iothub/#", "devices/#", "devices/d2/messages/devicebound/#", topics.inputs_filter("d1", "m2")]
    assert not any(topics.is_allowed_filter(f, "d1", "m1") for f in others)
    assert not any(topics.is_allowed_filter(f, "d1", None) for f in others)


def test_names_of_devices_are_bounded() -> None:
    assert all(identity.is_valid_id(t) for t in ("d1", "$edgeAgent", "a.b:c", "x" * 128))
    assert not any(identity.is_valid_id(t) for t in ("", ".", "..", "a/b", "a#", "a+", "é", "x" * 129))
    assert identity.client_id("d") == "d"
    assert identity.client_id("d", "m") == "d/m"
