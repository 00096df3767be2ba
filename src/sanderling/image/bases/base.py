"""The words of this room: what a base gives, and who makes one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sanderling.image.debian.lock import BaseLock
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.store import LayerStore, Made
from sanderling.oci import Platform


@dataclass(frozen=True, slots=True)
class Base:
    """What an image for one platform stands on.

    layers: lowest first. Those of another's image have no list of files: what is above them wins.
    env: variables of the base; of ours, PATH and LANG give way to them.
    user: whom the base's process runs as, when that is not root; empty: the image has our user.
    labels: what the image keeps of the base's labels.
    installed: Python packages in it by name, and the paths to take away to be rid of each.
    annotations: what the image's manifest says about the base.
    record: all that tells this base from others, as JSON, for the build's record.
    debian: the packages of a base that is made of Debian's.
    """

    layers: tuple[Made, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    installed: Mapping[str, list[str]] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    debian: BaseLock | None = None


class BaseMaker(Protocol):
    """Makes the bases of one image, for all its platforms; used by several threads."""

    @property
    def python(self) -> Interpreter:
        """The Python that all these bases have; its glibc is the oldest of theirs."""
        ...

    @property
    def layer_count(self) -> int:
        """How many layers an image on these bases has at most, before any of its own."""
        ...

    def make(self, platform: Platform, layers: LayerStore) -> Base:
        """Return the base for *platform*, its layers in the store of *layers*."""
        ...
