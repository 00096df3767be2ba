"""Which packages and models share a layer: an image has at most 40 layers, whatever its environment.

Only a base image that has more than 30 itself leads to more: what stands on it needs a few.

- Engines stop at 127 layers, some at about 70 (mount options are one page of memory); 40 leave room for images made
  on top of ours.
- A package of at least a megabyte has a layer of its own: a device that has it from another image fetches nothing.
- The others share layers. Which of these a package belongs to depends on its name alone, so that a changed package
  changes one layer. How many there are grows in powers of two, with all bytes that share.
- When more packages are large than there is room for, the largest have layers of their own. Sizes are compared by
  their power of two: a package that grew a little does not change places with another.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from sanderling.errors import Invalid
from sanderling.image.packages.resolve import Wheel
from sanderling.image.recipe import ModelFiles

MAX_LAYERS = 40
OWN_LAYER_BYTES = 1_000_000
SHARED_LAYER_BYTES = 4_000_000
MAX_SHARED_LAYERS = 8
MAX_MODEL_LAYERS = 8
LEAST_PACKAGE_LAYERS = MAX_SHARED_LAYERS
MOST_LAYERS = 100  # with a base of many layers

T = TypeVar("T")


class TooManyLayers(Invalid):
    """The base of the image has so many layers that there is no room for others."""

    def __init__(self, others: int) -> None:
        super().__init__(
            f"an image has at most {MOST_LAYERS} layers, and {others} of them are there before any package; "
            "take a base image with fewer layers"
        )
        self.others = others


def room_for_packages(others: int) -> int:
    """How many layers packages may take beside *others*. Raises TooManyLayers."""
    room = max(MAX_LAYERS - others, LEAST_PACKAGE_LAYERS)
    if others + room > MOST_LAYERS:
        raise TooManyLayers(others)
    return room


def group_wheels(wheels: Sequence[Wheel], files: Mapping[str, Path], room: int) -> list[list[Wheel]]:
    """The wheels of each layer, at most *room* layers; *files* is where each wheel is, by file name."""
    sizes = {wheel.name: files[wheel.file_name].stat().st_size for wheel in wheels}
    named = {wheel.name: wheel for wheel in wheels}
    return [[named[name] for name in group] for group in group_by_size(sizes, room)]


def group_models(models: Sequence[ModelFiles]) -> list[list[ModelFiles]]:
    """The models of each layer, at most eight layers; a new version of a model changes no layer but its own."""
    if len(models) <= MAX_MODEL_LAYERS:
        return [[model] for model in models]
    return _shared(models, MAX_MODEL_LAYERS, lambda model: model.name)


def group_by_size(sizes: Mapping[str, int], room: int) -> list[list[str]]:
    """The names of each layer, from the bytes of each; at most *room* layers. The order of *sizes* does not count."""
    large = [name for _, name in sorted((-sizes[n].bit_length(), n) for n in sizes if sizes[n] >= OWN_LAYER_BYTES)]
    if len(large) == len(sizes) <= room:
        return [[name] for name in sorted(large)]
    count = 1
    while True:
        alone = sorted(large[: room - count])
        rest = [name for name in sizes if name not in alone]
        if sum(sizes[name] for name in rest) <= count * SHARED_LAYER_BYTES or count * 2 > min(MAX_SHARED_LAYERS, room):
            return [*([name] for name in alone), *_shared(rest, count, lambda name: name)]
        count *= 2


def _shared(items: Sequence[T], count: int, name: Callable[[T], str]) -> list[list[T]]:
    """*items* in at most *count* groups, chosen by name."""
    groups: dict[int, list[T]] = {}
    for item in sorted(items, key=name):
        number = int.from_bytes(hashlib.sha256(name(item).encode()).digest()[:4]) % count
        groups.setdefault(number, []).append(item)
    return [groups[number] for number in sorted(groups)]
