"""What of an environment only conda can give."""

from dataclasses import dataclass

DEFAULT_CHANNELS = ("conda-forge",)


@dataclass(frozen=True, slots=True)
class CondaPart:
    """Conda packages that are wanted.

    channels: names or URLs in their order of priority.
    specs: conda's match specifications, python's included when the user named it.
    """

    channels: tuple[str, ...] = DEFAULT_CHANNELS
    specs: tuple[str, ...] = ()
