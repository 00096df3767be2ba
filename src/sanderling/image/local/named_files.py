"""The files that an environment or requirements file names by path: local wheels, and texts for -r and -c.

Only these are read, and nothing else of their folder. What a line means is the
parser's matter (`sanderling.image.environment`); here it is only what it may mean.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

MAX_TEXT_BYTES = 1 << 20
MAX_FILES = 1000
_WHEEL = re.compile(r"""[^\s"'#]+\.whl(?=["'\s;#]|$)""")
_TEXT = re.compile(r"""(?:^|[\s"'-])(?:-r|-c|--requirement|--constraint)[\s=]*(?P<path>[^\s"'#]+)""")


def named_files(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file that *path* names and that is there: its path seen from *path*'s folder, and its place."""
    yield from _named(path.absolute().parent, "", path.name, {path.name})


def _named(folder: Path, beside: str, name: str, seen: set[str]) -> Iterator[tuple[str, Path]]:
    for written, is_text in _paths(folder / beside / name):
        place = posixpath.normpath(posixpath.join(beside, written))
        if place in seen or len(seen) > MAX_FILES or not (folder / place).is_file():
            continue
        seen.add(place)
        yield place, folder / place
        if is_text:
            yield from _named(folder, posixpath.dirname(place), posixpath.basename(place), seen)


def _paths(path: Path) -> Iterator[tuple[str, bool]]:
    """The paths in the text *path*, and whether each is a text; nothing of what is no text."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TEXT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return
    for line in text.splitlines():
        plain = re.sub(r"(^|\s)#.*$", "", line)
        for match in _WHEEL.finditer(plain):
            if "://" not in match[0]:
                yield match[0], False
        text_match = _TEXT.search(plain)
        if text_match:
            yield text_match["path"], True
