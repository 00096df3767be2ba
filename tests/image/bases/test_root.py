import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.image.bases.root import Root
from tests.image.bases.images import Files, tar_of


def root_of(*layers: Files) -> Root:
    root = Root(lambda _: True)
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(tar_of(layer)), mode="r|") as tar:
            root.add_layer(tar)
    return root


def content(root: Root, path: str) -> bytes | None:
    node = root.find(path)
    return node.content if node is not None else None


def test_a_later_layer_wins() -> None:
    root = root_of({"a/b": b"1", "a/c": b"1"}, {"./a/b": b"2"})
    assert (content(root, "a/b"), content(root, "a/c")) == (b"2", b"1")


def test_a_whiteout_takes_away_what_is_below_and_nothing_of_its_own_layer() -> None:
    root = root_of({"a/b/c": b"1", "a/d": b"1"}, {"a/.wh.b": b"", "a/b/e": b"2"})
    assert root.list("a/b") == ["e"]
    assert content(root, "a/d") == b"1"


def test_an_opaque_folder_hides_all_that_was_in_it_wherever_the_mark_stands() -> None:
    root = root_of({"a/b": b"1", "a/c/d": b"1"}, {"a/e": b"2", "a/.wh..wh..opq": b"", "a/f": b"2"})
    assert root.list("a") == ["e", "f"]


def test_paths_lead_through_links_of_the_tree_and_never_out_of_it() -> None:
    root = root_of(
        {"lib": "usr/lib", "usr/lib/x": b"1", "abs": "/usr/lib/x", "up": "../../../../etc/x", "etc/x": b"3"},
        {"lib/y": b"2"},
    )
    assert root.resolve("lib/x") == "usr/lib/x"
    assert content(root, "usr/lib/y") == b"2"
    assert content(root, "abs") == b"1"
    assert content(root, "up") == b"3"


def test_links_in_a_circle_lead_nowhere() -> None:
    root = root_of({"a": "b", "b": "a", "c/d": "../c"})
    assert root.find("a") is None
    assert root.find("a/x") is None
    assert root.resolve("c/d/d/d") == "c"


def test_a_hard_link_has_the_content_of_the_other_name() -> None:
    root = root_of({"bin/python3.12": b"elf"}, {"bin/python3": "=bin/python3.12", "bin/gone": "=bin/nothing"})
    assert content(root, "bin/python3") == b"elf"
    assert content(root, "bin/gone") is None


def test_a_file_in_the_place_of_a_folder_takes_its_content_away() -> None:
    root = root_of({"a/b": b"1"}, {"a": b"2"}, {"a/c": b"3"})
    assert root.list("a") == ["c"]


def test_a_path_that_leads_outside_is_refused() -> None:
    with pytest.raises(Invalid, match="leads outside"):
        root_of({"a/../../b": b""})


NAMES = st.sampled_from(["a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
CONTENTS = st.one_of(st.none(), st.just(b"x"), st.sampled_from(["a", "/b", "../c", "=a", "=a/b", "."]))


@given(st.lists(st.dictionaries(PATHS, CONTENTS, max_size=6), max_size=4))
def test_whatever_the_layers_are_the_tree_stays_a_tree(layers: list[dict[str, bytes | str | None]]) -> None:
    root = root_of(*layers)
    for path in root.walk(""):
        parent = path.rpartition("/")[0]
        assert not parent or root._nodes[parent].kind == "folder"
        found = root.resolve(path)
        assert found is None or found in root._nodes
