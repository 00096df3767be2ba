from pathlib import Path

import pytest

from sanderling.errors import Invalid
from sanderling.image.local.destinations import check_platforms, default_name, parse_output, parse_push
from sanderling.oci import Platform

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("text", "kind", "path", "name"),
    [
        ("oci:out", "oci", "out", "demo/digits:1"),
        ("oci:out:1", "oci", "out", "1"),
        ("oci-archive:a/out.tar", "oci-archive", "a/out.tar", "demo/digits:1"),
        ("docker-archive:out.tar", "docker-archive", "out.tar", "demo/digits:1"),
        ("docker-archive:out.tar:mine", "docker-archive", "out.tar", "mine:latest"),
    ],
)
def test_a_file_takes_the_images_name_or_its_own(text: str, kind: str, path: str, name: str) -> None:
    found = parse_output(text, "demo/digits:1")
    assert found.address is not None
    assert (found.address.kind, found.address.path, found.name) == (kind, Path(path), name)


def test_the_reference_is_what_other_programs_take() -> None:
    assert parse_output("oci:out", "demo/digits:1").reference == "oci:out:demo/digits:1"
    assert parse_push("localhost:5000/demo/digits").reference == "localhost:5000/demo/digits:latest"
    assert parse_output("docker:", "demo/digits:1").reference == "demo/digits:1"


def test_an_engine_is_no_address_and_takes_a_name() -> None:
    assert parse_output("docker:", "demo/digits:1").name == "demo/digits:1"
    assert parse_output("docker:other:2", "demo/digits:1").name == "other:2"
    assert parse_output("docker:", "demo/digits:1").is_single


@pytest.mark.parametrize(
    "text", ["out", "oci", "localhost:5000/demo/x:1", "docker://localhost/demo/x", "oci:", f"oci:out@sha256:{'a' * 64}"]
)
def test_what_is_no_file_is_refused_as_an_output(text: str) -> None:
    with pytest.raises(Invalid):
        parse_output(text, "demo/digits:1")


def test_a_registry_gets_the_tag_that_it_names_or_latest() -> None:
    assert parse_push("localhost:5000/demo/digits:2").name == "2"
    assert parse_push("localhost:5000/demo/digits").name == "latest"


@pytest.mark.parametrize("text", ["oci:out", f"localhost:5000/demo/x@sha256:{'a' * 64}", "./out"])
def test_what_is_no_tag_of_a_registry_is_refused_as_a_push(text: str) -> None:
    with pytest.raises(Invalid):
        parse_push(text)


def test_an_image_without_a_name_is_called_as_where_it_goes_or_as_its_script() -> None:
    assert default_name("score", [parse_push("localhost:5000/demo/digits:2")]) == "demo/digits:2"
    assert default_name("My_Score", []) == "my-score:latest"
    assert default_name("_", []) == "image:latest"


def test_several_platforms_are_refused_where_one_has_room_before_anything_is_built() -> None:
    archive = parse_output("docker-archive:out.tar", "x:1")
    with pytest.raises(Invalid, match="holds one platform, and 2 are to be built"):
        check_platforms([archive], [AMD64, ARM64])
    check_platforms([parse_output("oci:out", "x:1")], [AMD64, ARM64])
