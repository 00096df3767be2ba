from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.image.layers.grouping import (
    LEAST_PACKAGE_LAYERS,
    MAX_LAYERS,
    MAX_MODEL_LAYERS,
    MAX_SHARED_LAYERS,
    OWN_LAYER_BYTES,
    SHARED_LAYER_BYTES,
    TooManyLayers,
    group_by_size,
    group_models,
    room_for_packages,
)
from sanderling.image.recipe import ModelFiles

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
SIZES = st.dictionaries(NAMES, st.integers(0, 900_000_000) | st.integers(0, 2_000_000), max_size=120)
ROOM = st.integers(MAX_SHARED_LAYERS, MAX_LAYERS - 3)
MB = 1_000_000


def models(*names: str, version: int = 1) -> Sequence[ModelFiles]:
    return [ModelFiles(name, version, {"model.pkl": Path("model.pkl")}) for name in names]


@given(SIZES, ROOM)
def test_every_package_is_in_one_layer_and_there_is_room_for_all(sizes: dict[str, int], room: int) -> None:
    groups = group_by_size(sizes, room)
    assert len(groups) <= room
    assert all(groups)
    assert sorted(name for group in groups for name in group) == sorted(sizes)


@given(SIZES, ROOM, st.randoms(use_true_random=False))
def test_the_order_of_packages_changes_nothing(sizes: dict[str, int], room: int, random: object) -> None:
    items = list(sizes.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert group_by_size(dict(items), room) == group_by_size(sizes, room)


@given(SIZES, ROOM)
def test_a_large_package_is_alone_when_there_is_room(sizes: dict[str, int], room: int) -> None:
    large = {name for name, size in sizes.items() if size >= OWN_LAYER_BYTES}
    if len(large) <= room - MAX_SHARED_LAYERS:
        groups = group_by_size(sizes, room)
        assert {group[0] for group in groups if len(group) == 1} >= large


@given(SIZES, ROOM, st.data())
def test_a_package_of_another_size_of_the_same_kind_changes_no_group(
    sizes: dict[str, int], room: int, data: st.DataObject
) -> None:
    """What changes then are the bytes of one layer: that of the package."""
    before = group_by_size(sizes, room)
    alone = sorted(name for name in sizes if sizes[name] >= OWN_LAYER_BYTES)
    if not alone or max(map(len, before)) > 1:
        return
    name = data.draw(st.sampled_from(alone))
    least = max(OWN_LAYER_BYTES, 1 << (sizes[name].bit_length() - 1))
    size = data.draw(st.integers(least, (1 << sizes[name].bit_length()) - 1))
    assert group_by_size(sizes | {name: size}, room) == before


@given(st.dictionaries(NAMES, st.integers(0, 30_000), min_size=1, max_size=100), NAMES, st.integers(0, 30_000))
def test_a_new_small_package_changes_one_layer(sizes: dict[str, int], name: str, size: int) -> None:
    before, after = group_by_size(sizes, 30), group_by_size(sizes | {name: size}, 30)
    assert len([group for group in after if group not in before]) <= 1


def test_packages_that_share_are_in_more_layers_the_more_bytes_they_have() -> None:
    few = {f"package{n}": 300_000 for n in range(10)}
    many = {f"package{n}": 300_000 for n in range(60)}
    assert len(group_by_size(few, 30)) == 1
    assert len(group_by_size(many, 30)) == MAX_SHARED_LAYERS
    assert sum(many.values()) > SHARED_LAYER_BYTES * 4


def test_the_largest_are_alone_when_not_all_can_be() -> None:
    sizes = {f"package{n:02}": (n + 1) * MB for n in range(60)}
    groups = group_by_size(sizes, 29)
    alone = [group[0] for group in groups if len(group) == 1]
    assert len(groups) <= 29
    # Of one power of two, names decide: 32 of them have 33.6 MB and more, and 21 layers are left.
    assert all(sizes[name] >= 1 << 24 for name in alone)


def test_scikit_learn_is_laid_out_as_it_always_was() -> None:
    sizes = {"scikit-learn": 9 * MB, "numpy": 16 * MB, "scipy": 35 * MB, "joblib": 300_000, "threadpoolctl": 18_000}
    assert group_by_size(sizes, 36) == [["numpy"], ["scikit-learn"], ["scipy"], ["joblib", "threadpoolctl"]]


def test_models_have_layers_of_their_own_as_long_as_there_are_few() -> None:
    few = models("a", "b", "c")
    assert group_models(few) == [[model] for model in few]
    names = [f"model{n}" for n in range(50)]
    before = group_models(models(*names))
    assert len(before) <= MAX_MODEL_LAYERS
    changed = [*models(*names[1:]), *models(names[0], version=2)]
    after = group_models(changed)
    assert len([group for group in after if group not in before]) == 1


def test_all_layers_together_are_never_more_than_forty() -> None:
    assert room_for_packages(3 + MAX_MODEL_LAYERS) + 3 + MAX_MODEL_LAYERS == MAX_LAYERS
    assert room_for_packages(35) == LEAST_PACKAGE_LAYERS  # a base of many layers still carries a few
    with pytest.raises(TooManyLayers, match="95 of them are there before any package; take a base image with fewer"):
        room_for_packages(95)
