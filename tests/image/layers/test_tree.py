from hypothesis import given
from hypothesis import strategies as st

from sanderling.image.layers.tree import Entry, with_parents

PARTS = st.sampled_from(["a", "b.py", "a.py", "__init__.py", "__pycache__", "a.cpython-311.pyc", "b.pyc", "Z", "~"])
PATHS = st.lists(st.lists(PARTS, min_size=1, max_size=5).map("/".join), max_size=20, unique=True)


def order(*paths: str) -> list[str]:
    return [entry.path for entry in with_parents(Entry(path, "file", 0o644) for path in paths)]


@given(PATHS, st.randoms(use_true_random=False))
def test_folders_come_before_what_is_in_them_whatever_the_names_and_the_order(paths: list[str], random: object) -> None:
    ordered = order(*paths)
    assert len(ordered) == len(set(ordered))
    for place, path in enumerate(ordered):
        parent = path.rpartition("/")[0]
        assert not parent or parent in ordered[:place]
    random.shuffle(paths)  # type: ignore[attr-defined]
    assert order(*paths) == ordered


def test_bytecode_is_right_behind_its_source() -> None:
    assert order("a/__pycache__/x.cpython-311.pyc", "a/__init__.py", "a/y.py", "a/x.py", "a/__pycache__/other") == [
        "a",
        "a/__pycache__",
        "a/__init__.py",
        "a/__pycache__/other",
        "a/x.py",
        "a/__pycache__/x.cpython-311.pyc",
        "a/y.py",
    ]
