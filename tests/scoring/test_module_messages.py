"""Properties of messages: bags read and written as the project's own `iot` words do."""

from hypothesis import given
from hypothesis import strategies as st

from sanderling.iot import property_bag
from sanderling_scoring import answers
from sanderling_scoring.module_messages import (
    InputMessage,
    answer_message,
    decode_bag,
    encode_bag,
    error_message,
)

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12)
BAGS = st.dictionaries(NAMES, NAMES | st.just("") | st.none(), max_size=5)


@given(BAGS)
def test_a_bag_survives_the_way_there_and_back(bag: dict[str, str | None]) -> None:
    assert decode_bag(encode_bag(bag)) == bag


@given(BAGS)
def test_a_bag_is_read_as_the_edge_hub_reads_it(bag: dict[str, str | None]) -> None:
    assert dict(property_bag.decode(encode_bag(bag))) == bag
    assert decode_bag(property_bag.encode(bag)) == bag


def test_without_a_correlation_id_the_message_id_becomes_it() -> None:
    message = InputMessage("amlInput", {"$.mid": "m1", "$.cdid": "d1"}, b"", 1)
    sent = answer_message(message, answers.from_return_value([1]))
    assert sent.properties["$.cid"] == "m1"
    assert "$.mid" not in sent.properties
    assert "$.cdid" not in sent.properties


def test_properties_that_cannot_be_passed_on_become_an_error_without_them() -> None:
    message = InputMessage("amlInput", {"p": "x" * 70_000}, b"", 1)
    sent = answer_message(message, answers.from_return_value([1]))
    assert sent.output == "amlError"
    assert "p" not in sent.properties
    assert len(error_message(message, "y" * 100_000).body) < 10_000
