"""Templates to pages.

Autoescape is on for every template and undefined names are errors, so that a page
shows what it means to show or fails loudly in the tests.
"""

from pathlib import PurePosixPath
from urllib.parse import quote

import jinja2

from sanderling.portal import formats
from sanderling.portal.states import chip


def path(*segments: object) -> str:
    """Join path segments, each percent-encoded whole, into a path of the portal."""
    return "/" + "/".join(quote(str(segment), safe="", errors="replace") for segment in segments)


def as_path(relative: str) -> str:
    """Percent-encode each part of a relative path."""
    return "/".join(quote(part, safe="", errors="replace") for part in PurePosixPath(relative).parts)


def environment() -> jinja2.Environment:
    """Return the portal's templates with their filters."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("sanderling.portal"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        size=formats.size,
        duration=formats.duration,
        age=formats.age,
        moment=formats.moment,
        as_time=formats.parse_time,
        short_digest=formats.short_digest,
        cut=formats.cut,
        sentence=formats.sentence,
        pretty=formats.pretty,
        one_line=formats.one_line,
        as_path=as_path,
    )
    found.globals.update(path=path, chip_of=chip)
    return found
