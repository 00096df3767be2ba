"""The final prefix in place of the one a package was built with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.image.conda.prefix import PrefixTooLong, replace_prefix

OLD = "/build/placeholder_placeholder"


def test_a_text_gets_the_prefix_and_becomes_shorter() -> None:
    text = f"#!{OLD}/bin/python\nroot = {OLD}\n".encode()
    assert replace_prefix(text, OLD, "/opt/conda", is_text=True) == b"#!/opt/conda/bin/python\nroot = /opt/conda\n"


def test_a_binary_keeps_its_length_and_what_comes_after() -> None:
    content = b"\x7fELF\0" + OLD.encode() + b"/lib:" + OLD.encode() + b"/lib64\0next\0"
    done = replace_prefix(content, OLD, "/opt/conda", is_text=False)
    assert len(done) == len(content)
    assert done.startswith(b"\x7fELF\0/opt/conda/lib:/opt/conda/lib64\0\0")
    assert done.endswith(b"\0next\0")


def test_a_binary_text_without_an_end_is_left_alone() -> None:
    content = b"x\0" + OLD.encode() + b"/lib"
    assert replace_prefix(content, OLD, "/opt/conda", is_text=False) == content


def test_a_binary_with_too_little_room_is_refused_by_name() -> None:
    with pytest.raises(PrefixTooLong, match=r"bin/tool was built for the prefix '/b'"):
        replace_prefix(b"/b/x\0", "/b", "/opt/conda", is_text=False, path="bin/tool")


def test_a_file_without_the_placeholder_stays_as_it_is() -> None:
    assert replace_prefix(b"nothing\0", "/b", "/opt/conda", is_text=False) == b"nothing\0"
    assert replace_prefix(b"nothing", "", "/opt/conda", is_text=True) == b"nothing"


@given(st.lists(st.sampled_from([OLD.encode(), b"\0", b"/lib", b":", b"\xff\xfe"]), max_size=30))
def test_no_binary_ever_changes_its_length_or_where_its_texts_end_up(pieces: list[bytes]) -> None:
    content = b"".join(pieces) + b"\0"
    done = replace_prefix(content, OLD, "/opt/conda", is_text=False)
    assert len(done) == len(content)
    assert OLD.encode() not in done
    assert all(done[place] == 0 for place in range(len(content)) if content[place] == 0)
