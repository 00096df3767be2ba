"""Parts that are installed only where they are needed."""

from collections.abc import Iterator
from contextlib import contextmanager

from sanderling.errors import Unavailable
from sanderling.sdk.hints import hinted


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing import inside into the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "sanderling" and error.name != "sanderling":
            raise
        raise hinted(
            Unavailable(f"this needs the Python package {error.name}, which is not installed here"),
            f"pip install 'sanderling[{extra}]'",
        ) from error
