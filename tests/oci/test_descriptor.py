from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.oci import Descriptor, Digest, Platform, media_types

D = str(Digest.of(b"x"))
PLAIN: dict[str, Any] = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": D, "size": 1}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    size=st.integers(0, 2**63 - 1),
    annotations=st.dictionaries(TEXT, TEXT, max_size=3),
    urls=st.lists(TEXT, max_size=2),
    unknown=st.dictionaries(TEXT.map("x-".__add__), st.integers() | TEXT | st.lists(TEXT), max_size=3),
)
def test_a_descriptor_and_its_unknown_fields_survive_a_round_trip(
    size: int, annotations: dict[str, str], urls: list[str], unknown: dict[str, Any]
) -> None:
    fields = {
        **PLAIN,
        "size": size,
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"},
    }
    fields |= {"artifactType": "a/b"} | unknown
    fields |= {"annotations": annotations} if annotations else {}
    fields |= {"urls": urls} if urls else {}
    assert Descriptor.from_json(fields).to_json() == fields


def test_a_descriptor_without_the_optional_fields_is_short() -> None:
    assert Descriptor.from_json(PLAIN).to_json() == PLAIN


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": 2**63},
        {"size": "1"},
        {"size": True},
        {"size": 1.0},
        {"size": None},
        {"digest": "sha256:1"},
        {"digest": None},
        {"digest": 5},
        {"mediaType": ""},
        {"mediaType": "text"},
        {"mediaType": "a/b; c=d"},
        {"mediaType": "a/b\r\nX: y"},
        {"annotations": []},
        {"annotations": {"a": 1}},
        {"urls": "x"},
        {"urls": [1]},
        {"platform": "linux"},
        {"platform": {"os": 1}},
        {"artifactType": "no"},
        {"artifactType": 1},
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Descriptor.from_json(PLAIN | change)


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_what_is_no_object_is_no_descriptor(value: object) -> None:
    with pytest.raises(Invalid):
        Descriptor.from_json(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
    ],
)
def test_a_platform_is_read_in_the_words_of_images_and_of_uname(text: str, expected: str) -> None:
    assert str(Platform.parse(text)) == expected


@pytest.mark.parametrize("text", ["", "linux", "linux/", "a/b/c/d", "linux/ arm", "/amd64", "linux/" + "a" * 65])
def test_what_is_not_a_platform_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("machine", "image", "expected"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm", "linux/arm/v7", True),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_a_machine_runs_images_of_its_platform(machine: str, image: str, expected: bool) -> None:
    assert Platform.parse(machine).runs(Platform.parse(image)) is expected
