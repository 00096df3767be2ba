"""The part of an environment that only conda can solve."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CondaPart:
    """Real conda packages: *channels* (names or URLs, in order) and *specs* (match specifications, python's too)."""

    channels: tuple[str, ...]
    specs: tuple[str, ...]
