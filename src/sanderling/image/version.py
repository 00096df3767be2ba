"""The version of the installed product."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def product_version() -> str:
    """Return the distribution's version; `0+unknown` when it runs uninstalled from its sources."""
    try:
        return version("sanderling")
    except PackageNotFoundError:
        return "0+unknown"
