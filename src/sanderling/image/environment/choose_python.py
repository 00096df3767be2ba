"""Choose the Python of an image, out of those that there are."""

from collections.abc import Sequence

from sanderling.errors import Invalid
from sanderling.image.environment.environment import Environment
from sanderling.image.interpreter import Interpreter

_DEBIAN_SITE = "usr/lib/python3/dist-packages"
# Each Debian has one version of the C library.
_DEBIANS = {(2, 36): "Debian 12", (2, 41): "Debian 13"}


def choose_python(environment: Environment, possible: Sequence[Interpreter]) -> Interpreter:
    """The first of *possible* that *environment* allows; their order is the order of preference.

    Raises EnvironmentInvalid that names what is possible.
    """
    for python in possible:
        if _is_allowed(environment, python):
            return python
    there = ", ".join(f"{_base_of(python)} has {python.version}" for python in possible) or "this base has none"
    wish = environment.python_wish
    text = f"'{wish.text if wish else f'python={environment.python}'}': {there}"
    way_out = "write one of these, or leave python out; conda packages or your own base image have others"
    if wish is None:
        raise Invalid(f"{text}; {way_out}")
    raise wish.place.refuse(f"{text}; {way_out}", "python")


def _is_allowed(environment: Environment, python: Interpreter) -> bool:
    if environment.python_wish is not None:
        return python.version in environment.python_wish.minors
    return environment.python in (None, python.version)


def _base_of(python: Interpreter) -> str:
    if python.site == _DEBIAN_SITE and python.glibc in _DEBIANS:
        return _DEBIANS[python.glibc]
    return "the base image"
