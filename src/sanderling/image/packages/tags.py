"""Which wheels run on a platform, by the tags in their names.

Source: platform compatibility tags (PEP 425, PEP 600).
"""

from functools import cache

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from sanderling.image.interpreter import Interpreter
from sanderling.oci import Platform

# The processors by the names that wheels have.
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64", "linux/arm/v7": "armv7l"}
# The oldest C library that wheels for a processor may be made for, and the tags from before PEP 600.
_OLDEST = {"x86_64": 5, "aarch64": 17, "armv7l": 17}
_OLDER_TAGS = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1")}


@cache
def platform_tags(platform: Platform, glibc: tuple[int, int]) -> tuple[str, ...]:
    """What wheels for the processor of *platform* may have as their platform, the best first."""
    machine = MACHINES[str(platform)]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc[1], _OLDEST[machine] - 1, -1)]
    return (
        *platforms,
        *(f"{name}_{machine}" for name in _OLDER_TAGS.get(machine, ("manylinux2014",))),
        f"linux_{machine}",
    )


@cache
def tags_of(platform: Platform, python: Interpreter) -> dict[Tag, int]:
    """The tags of wheels that run on *platform* with *python*: 0 is the best."""
    platforms = platform_tags(platform, python.glibc)
    version = tuple(int(part) for part in python.version.split("."))
    ordered = [
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms),
    ]
    return {tag: place for place, tag in reversed(list(enumerate(ordered)))}


def rank(file_name: str, platform: Platform, python: Interpreter) -> int | None:
    """How well the wheel *file_name* fits: 0 is best; None when it does not run, or is no wheel."""
    try:
        tags = parse_wheel_filename(file_name)[3]
    except InvalidWheelFilename:
        return None
    order = tags_of(platform, python)
    return min((order[tag] for tag in tags if tag in order), default=None)
